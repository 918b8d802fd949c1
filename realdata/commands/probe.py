"""Measure a network that was trained elsewhere, with its own head and weights. Nothing is trained.

    python -m realdata probe pacs --model torchvision:resnet50 --checkpoint my.pt --root data --target sketch
    python -m realdata probe waterbirds --factory my_module:build --checkpoint my.pt --root data --images 2000

Prints probing errors of the hard and the easy attribute, accuracies of groups with the network's own head, and how
even the example weights are at the real and at the phantom parameters. OUT/probe.json holds all measures.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from realdata.commands.run import settings_of
from realdata.settings.flags import add_data_flags, add_job_flags, add_option_flags, root_folder
from realdata.sweeps.work import require_device
from realdata.values import single_values
from sambalance_tools.command_line import OneLineParser, module_parser
from sambalance_tools.files import writable_directory, write_text

DEFAULT_OUT = "out/probe"
RESULT = "probe.json"


def parser(data: str | None = None) -> OneLineParser:
    """The command line. If the data set is known, its options are flags, too."""
    made = module_parser("realdata probe", __doc__)
    made.add_argument("data", help="name of the data set (listed by python -m realdata check --help)")
    made.add_argument("--model", metavar="X", help="network: torchvision:NAME or timm:NAME")
    made.add_argument("--factory", metavar="MODULE:FUNCTION", help="function of yours that makes the network instead")
    made.add_argument("--checkpoint", required=True, metavar="FILE", help="file of its weights (a state dict)")
    made.add_argument("--head", metavar="NAME", help="name of its last linear layer (default: the last one)")
    made.add_argument("--resolution", type=int, metavar="N", help="resize images to N x N pixels for --model")
    made.add_argument("--size", type=int, metavar="N", help="read images at N x N pixels (default: the data set's)")
    made.add_argument("--rho", type=float, default=0.05, metavar="X", help="radius of the phantom point (default 0.05)")
    made.add_argument("--images", type=int, metavar="N", help="measure at most N images of each split (default: all)")
    made.add_argument("--out", default=DEFAULT_OUT, metavar="DIR", help=f"folder of the result (default {DEFAULT_OUT})")
    add_job_flags(made)
    if data is not None:
        add_data_flags(made, data)
    add_option_flags(made, many=False)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    named = given[0] if given and not given[0].startswith("-") else None
    options = parser(named).parse_args(given)
    if (options.model is None) == (options.factory is None):
        raise ValueError("--model and --factory; allowed: one of them")
    if not Path(options.checkpoint).is_file():
        raise ValueError(f"--checkpoint {options.checkpoint} does not exist; allowed: a file of weights")
    root, device = root_folder(options.root), options.device or "auto"
    require_device(device)
    out = writable_directory(options.out)
    from realdata import datasets
    from realdata.measures.own_network import probe_network
    from realdata.measures.protocols import probe_options, protocol
    from realdata.models.device import choose_device
    from realdata.models.own import from_checkpoint
    from realdata.results.run_table import print_rows
    from realdata.settings.completion import complete_data_options
    from realdata.sweeps.jobs import to_json_values

    chosen = complete_data_options(options.data, settings_of(options)["data_options"])
    data = datasets.load(options.data, root, chosen, size=options.size)
    sys.path.insert(0, "")  # a factory beside the user's files is found
    model = from_checkpoint(
        data, options.checkpoint, model=options.model, factory=options.factory, head=options.head,
        resolution=options.resolution,
    ).to(choose_device(device))  # fmt: skip
    name = options.protocol or "fast"
    measured = protocol(name).replace(**probe_options(name, single_values(options.probe_option, "--probe-option")))
    seed = options.evaluation_seed or 0
    rows = probe_network(model, data, rho=options.rho, protocol=measured, images=options.images, seed=seed)
    written = {
        "data": data.title, "network": options.model or options.factory, "checkpoint": str(options.checkpoint),
        "rho": options.rho, "images": options.images, "fingerprint": data.fingerprint,
        "rows": [to_json_values(row) for row in rows],
    }  # fmt: skip
    write_text(out / RESULT, json.dumps(written, indent=1))
    print_rows(rows, f"{data.title}: {written['network']}, {options.checkpoint}")
    print(f"  {out / RESULT}")
