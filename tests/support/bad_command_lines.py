"""Tables of bad command lines, one per command; see support/bad_input_cases.py for the notation."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from sambalance_tools.command_line import run_command
from support.bad_input_cases import Case, Content, rows, words

COMMANDS = {
    "toymodels.phase_diagram": "toymodels.phase_diagram.__main__",
    "toymodels.trajectories": "toymodels.trajectories.__main__",
    "toymodels.filter": "toymodels.filter.__main__",
    "toymodels.validate": "toymodels.validate.__main__",
    "toymodels.beyond": "toymodels.beyond.__main__",
    "proofs_check": "proofs_check.cli",
    "realdata": "realdata.__main__",
}

# What the commands import when they need it: imported once, here.
for module in (
    *COMMANDS.values(),
    *(f"realdata.commands.{name}" for name in
      ("check", "run", "sweep", "report", "predict", "phase_plane", "phase_diagram", "download")),
    "kernels", "kernels.engine", "kernels.sam.optimizer", "matplotlib.backends.backend_agg", "matplotlib.pyplot",
    "pandas", "pyarrow.parquet", "h5netcdf", "xarray", "yaml", "sklearn.linear_model", "torch", "torchvision",
    "toymodels.phase_diagram.report", "toymodels.phase_diagram.study", "toymodels.trajectories.study",
    "toymodels.trajectories.linear_networks", "toymodels.filter.study", "toymodels.validate.study",
    "toymodels.beyond.study", "proofs_check.registry", "realdata.predictions.request", "realdata.predictions.judging",
    "realdata.results.report", "realdata.html.page", "realdata.sweeps.estimate", "realdata.training.train",
    "realdata.measures.evaluate", "realdata.results.phase_plane_figure",
):  # fmt: skip
    importlib.import_module(module)


def _action(command: str, arguments: str) -> Callable[[], object]:
    main = importlib.import_module(COMMANDS[command.split()[0]]).main
    given = [*command.split()[1:], *words(arguments)]
    return lambda: run_command(main, given)


def lines(
    command: str, table: str, *, files: Mapping[str, Content] | None = None,
    variables: Mapping[str, str] | None = None, written: Sequence[str] = (), on_stdout: bool = False,
) -> Iterator[Case]:  # fmt: skip
    """Cases of a command from a table; the other arguments are those of :class:`Case`."""
    for text, expected in rows(table):
        yield Case(
            f"{command} {text}", _action(command, text), expected, files or {}, variables or {}, written, on_stdout
        )


def family(command: str, flags: str, messages: Mapping[str, str], before: str = "") -> Iterator[Case]:
    """Every flag with every value.

    Args:
        command: a command. before: arguments in front of the flag.
        flags: separated by blanks.
        messages: by value, how the message begins; ``{flag}`` and ``{name}`` (``weight_decay``) stand for the flag.
    """
    for flag in flags.split():
        name = flag.removeprefix("--").replace("-", "_")
        for value, message in messages.items():
            text = f"{before} {flag}={value}".strip()
            yield Case(f"{command} {text}", _action(command, text), message.format(flag=flag, name=name))


def not_a_number(span: str, *, low: str = "-1", shown_low: str = "-1.0") -> dict[str, str]:
    """What the toy's parameters say to values that none of them takes, and to one below the least, ``low``."""
    return {
        "nan": f"argument {{flag}}: {{name}}=nan; allowed: {span} (",
        "1e999": f"argument {{flag}}: {{name}}=inf; allowed: {span} (",
        low: f"argument {{flag}}: {{name}}={shown_low}; allowed: {span} (",
        "x": "argument {flag}: 'x' is not a number",
    }


TOY_PARAMETERS = {
    "--rho --weight-decay --noise-easy --noise-hard --noise-extra --relative-radius": not_a_number("a number >= 0"),
    "--mu-easy --mu-hard --init --eta": not_a_number("a number >= 1e-12"),
    "--ratio": not_a_number("a number in [1e-12, 1]"),
    "--p --q --spread --cosine": not_a_number("a number in [0, 1]"),
    "--flip": not_a_number("a number in [0, 0.5]"),
    "--imbalance": not_a_number("a number in [-20, 20]", low="-21", shown_low="-21.0"),
    "--jitter": not_a_number("a number in [0, 10]"),
    "--momentum": not_a_number("a number in [0, 1]"),
    "--noise-patches --sam-from --sam-until --noise-features --slabs --batch": not_a_number(
        "a whole number in [0, 1e+09]"
    ),
    "--copies --samples --width --steps": not_a_number("a whole number in [1, 1e+09]"),
    "--depth": not_a_number("a whole number in [2, 1e+09]", low="1", shown_low="1.0"),
}

PHASE_DIAGRAM = """
# seeds, and how much fits
--seeds 0||-3 -> seeds={}; allowed: a whole number >= 1
--seeds x||1.5 -> argument --seeds: invalid int value: '{}'
--seeds 99999999999999999999 -> seeds=99999999999999999999; allowed: a number from 1 to
--seeds 1000000000
    -> ratio 96 x rho 96 x seeds ... runs need about ... of memory are free; allowed here: up to
--x rho=0:1:30000 --y ratio=0.1:0.9:30000 -> ratio 30,000 x rho 30,000 x seeds 4: 3,600,000,000 runs need about
--noise-easy 0.1 --samples 1000000000 -> samples=1000000000: ... numbers of one run need about
--noise-features 1000000000 -> noise_features=1000000000: ... numbers of one run need about
--depth 1000000000 -> depth=1000000000: ... numbers of one run need about
--network relu --width 1000000000 -> width=1000000000: ... numbers of one run need about
--network patches --copies 1000000000 -> copies=1000000000: ... numbers of one run need about
--network patches --noise-patches 1000000000 -> noise_patches=1000000000: ... numbers of one run need about
--data slabs --slabs 1000000000 -> slabs=1000000000: ... numbers of one run need about

# axes
--x rho -> --x 'rho' has no '='; allowed: NAME=START:STOP:COUNT
--x =0:1:3 -> parameter '' is not known; allowed: rho, mu_easy
--y bogus=0:1:3 -> parameter 'bogus' is not known; allowed: rho, mu_easy
--x rho= -> --x 'rho=': the axis is empty; allowed: NAME=START:STOP:COUNT
--x rho=0:1:0||0:1:-4||1:1:8 -> --x 'rho={}': ... values from ...; allowed: NAME=START:STOP:COUNT
--x rho=0:1:x -> --x 'rho=0:1:x': invalid literal for int() with base 10: 'x'; allowed: NAME=START:STOP:COUNT
--x rho=0:1:3:4||0:1:3:4:log -> --x 'rho={}': '3:4' is not a count; allowed: NAME=START:STOP:COUNT
--x rho=0:1:8:log -> --x 'rho=0:1:8:log': logarithmic spacing needs start and stop > 0; allowed:
--x rho=0:1:1000000000||0:1:99999999999999999999 -> --x 'rho={}': ... values are more than 10,000,000; allowed:
--x rho=0:inf:8||nan:1:8 -> rho=nan; allowed: a number >= 0
--x rho=-1:1:8 -> rho=-1.0; allowed: a number >= 0
--x rho=0,1,x -> --x 'rho=0,1,x': could not convert string to float: 'x'; allowed: NAME=START:STOP:COUNT
--x rho=0,0,1 -> axis rho=[0.0, 0.0, 1.0] is not increasing; allowed: increasing values, none twice
--x rho=0:1:1 -> --x rho has 1 value; allowed: at least 2
--y ratio=0.5 -> --y ratio has 1 value; allowed: at least 2
--x rho=0:1:8 --y rho=0:1:8 -> --x and --y are both 'rho'; allowed: two different parameters
--x rho=0:1:8 --rho 0.3 -> rho is both an axis (--x) and fixed at 0.3; allowed: one of them
--y ratio=0.1:2:4 -> ratio=1.3666666666666667; allowed: a number in [1e-12, 1]
--x mu_hard=1:3:4 --y rho=0:1:4 -> mu_hard=3 exceeds mu_easy=2; allowed: mu_hard <= mu_easy
--x steps=1:1e12:3 --y rho=0:1:3 -> steps=500000000000.0; allowed: a whole number in [1, 1e+09]

# choices, and what does not go together
--metric||--network||--compare||--data||--rule||--effect||--loss||--precision||--activation bogus
    -> argument {}: invalid choice: 'bogus' (choose from
--metric worst_group_accuracy -> metric='worst_group_accuracy' needs groups; allowed with every --data but redundant
--metric worst_group_accuracy --data slabs --x slabs=1:3:3 -> metric='worst_group_accuracy' needs groups; allowed
--compare effects --rule lsam -> --compare effects sets the rules and the metric itself; allowed: only without
--compare effects --effect weights -> --compare effects sets the rules and the metric itself; allowed: only without
--compare effects --metric steps -> --compare effects sets the rules and the metric itself; allowed: only without
--compare effects --from x.nc -> --compare effects sets the rules and the metric itself; allowed: only without
--level 0||-1||nan||1e999 -> loss_levels=[...]; allowed: distinct numbers > 0
--level x -> argument --level: invalid float value: 'x'
--head local -> head='local': allowed with network patches only
--activation relu -> activation='relu': allowed with network patches only
--network patches --head bogus||-1 -> head='{}'; allowed: local, pooled or a number of windows
--network patches --head 0 -> head=0; allowed: a whole number >= 1
--network patches --head 3 -> head=3 windows; allowed: a number that divides the 2 patches
--bias -> bias=True: a diagonal network has no bias; allowed with network linear or relu
--network patches --bias -> bias=True: a patches network has no bias; allowed with network linear or relu
--cosine 0.5 -> cosine is a parameter of patches networks; allowed: with network patches only
--copies 2 -> copies is a parameter of patches networks; allowed: with network patches only
--rule sam_per_feature --network relu --steps 5 --x rho=0:1:2 --y ratio=0.1:1:2
    -> norm_over='feature': features of a two_layer network share their weights; allowed: all, layer
--rho 1 --relative-radius 2 --x init=0.1:1:3 -> rho and relative_radius are both given; allowed: one of them
--ratio 0.5 --mu-hard 1 --y rho=0:1:3 --x init=0.1:1:3 -> ratio and mu_hard are both given; allowed: one of them
--mu-easy 1 --mu-hard 2 --y rho=0:1:3 --x init=0.1:1:3 -> mu_hard=2 exceeds mu_easy=1; allowed: mu_hard <= mu_easy

# engines
--engine bogus -> engine='bogus' is not known; allowed: auto, triton, cpu, reference
--engine triton -> engine='triton' is not available: no GPU was found
--engine reference --precision float32 -> engine='reference' does not support precision='float32'; engines that do:
--threads 0||-1 -> threads={}; allowed: a whole number >= 1
--threads 99999999999999999999||1000000 -> threads={}; allowed: a whole number in 1..4096
--threads x -> argument --threads: invalid int value: 'x'

# files, and the parser's own
--out /proc/x||file.txt||/dev/null -> --out={}: cannot write there (...); allowed: a writable folder
--from missing.nc -> --from=missing.nc cannot be read as a phase diagram (
--from . -> --from=. cannot be read as a phase diagram (
--from file.txt -> --from=file.txt cannot be read as a phase diagram (
--from zeros.nc -> --from=zeros.nc cannot be read as a phase diagram (
--from file.txt --seeds 3 -> --seeds cannot be combined with --from, which redraws a stored simulation
--from file.txt --rho 3 -> --rho cannot be combined with --from, which redraws a stored simulation
--from file.txt --x rho=0:1:3 -> --x cannot be combined with --from, which redraws a stored simulation
--from file.txt --network relu -> --network cannot be combined with --from, which redraws a stored simulation
--bogus||extra -> unrecognized arguments: {}
--rho -> argument --rho: expected one argument
"""

TRAJECTORIES = """
--seeds -1||0 -> seeds={}; allowed: a whole number >= 1
--seeds x -> argument --seeds: invalid int value: 'x'
--seeds 1000000000 -> seeds ... runs need about
--seeds 99999999999999999999 -> seeds=99999999999999999999; allowed: a number from 1 to
--network relu -> argument --network: invalid choice: 'relu'
--network linear --animate gif -> --animate gif: no phase plane is drawn of linear networks; allowed: with --network
--network linear --width 1000000000 -> width=1000000000...: ... numbers of one run need about
--animate mov -> argument --animate: invalid choice: 'mov' (choose from 'gif', 'mp4')
--head pooled -> head='pooled': allowed with network patches only
--activation relu -> activation='relu': allowed with network patches only
--data slabs -> argument --data: invalid choice: 'slabs'
--mu-hard 3 -> mu_hard=3 exceeds mu_easy=2; allowed: mu_hard <= mu_easy
--rho 1 --relative-radius 1 -> rho and relative_radius are both given; allowed: one of them
--depth 3 -> trajectories need a configuration that the flow describes; here: depth > 2
--momentum 0.5 -> trajectories need a configuration that the flow describes; here: momentum
--noise-easy 0.5 -> trajectories need a configuration that the flow describes; here: noise_easy > 0
--engine bogus -> engine='bogus' is not known; allowed: auto, triton, cpu, reference
--engine triton -> engine='triton' is not available: no GPU was found
--out file.txt -> --out=file.txt: cannot write there (File exists); allowed: a writable folder
"""

FILTER = """
--features 0||1||-5 -> features={}; allowed: a whole number >= 2
--features x -> argument --features: invalid int value: 'x'
--features 1000000000||99999999999999999999 -> features={}, 3 radii: ... features of a run need about
--strengths 1||a:b||1:2:3||1: -> --strengths '{}'; allowed: LOW:HIGH, two numbers
--strengths 2:1||1:1||nan:2||0:2||1:inf -> strengths=(...); allowed: 0 < low < high
--rho , -> --rho ',' is empty; allowed: numbers separated by commas
--rho x||0,x -> --rho '{}'; allowed: numbers separated by commas
--rho -1||nan||inf -> rho=[...]; allowed: >= 0
--rho 1e300 -> rho=[1e+300]: every run collapses before the first level; allowed: smaller rho
--init 0||-1||nan||1e999||1e300 -> init=...; allowed: a number in [1e-09, 1e+09]
--init 1e9 -> levels=[0.6, 0.3, 0.1]; allowed: between 0 and the loss at the start, 0
--eta 0||-1||nan||1e999||1e-300 -> eta=...; allowed: a number in [1e-09, 1e+09]
--eta x -> argument --eta: invalid float value: 'x'
--level 0||-1||nan||5||1e999 -> levels=[...]; allowed: between 0 and the loss at the start, 0.6798
--level x -> argument --level: invalid float value: 'x'
--engine bogus -> engine='bogus' is not known; allowed: auto, triton, cpu, reference
--engine triton -> engine='triton' is not available: no GPU was found
--out file.txt -> --out=file.txt: cannot write there (File exists); allowed: a writable folder
extra -> unrecognized arguments: extra
"""

VALIDATE = """
--configurations 0||-4||54 -> configurations={}; allowed: a whole number >= 55
--configurations x -> argument --configurations: invalid int value: 'x'
--configurations 1000000000||99999999999999999999 -> configurations={}: ... configurations need about
--seed -1 -> seed=-1; allowed: a whole number >= 0
--seed x -> argument --seed: invalid int value: 'x'
--engine bogus -> engine='bogus' is not known; allowed: auto, triton, cpu, reference
--engine triton -> engine='triton' is not available: no GPU was found
--out file.txt -> --out=file.txt: cannot write there (File exists); allowed: a writable folder
"""

BEYOND = """
--study bogus -> --study='bogus' is not known; allowed: heads, width, data
--seeds 1||0||-1 -> --seeds={}; allowed: a whole number >= 2
--seeds x -> argument --seeds: invalid int value: 'x'
--seeds 1000000000 -> seeds ... runs need about
--seeds 99999999999999999999 -> seeds=99999999999999999999; allowed: a number from 1 to
--engine bogus -> engine='bogus' is not known; allowed: auto, triton, cpu, reference
--engine triton -> engine='triton' is not available: no GPU was found
--threads 0 -> threads=0; allowed: a whole number >= 1
--out file.txt -> --out=file.txt: cannot write there (File exists); allowed: a writable folder
"""

PROOFS = """
--claim C99||C1,C2||x -> unknown claim ...; known: C1, C2
--claim -> argument --claim: expected one argument
-j 0||-3||x||1.5 -> argument -j/--jobs: '{}' is not a whole number >= 1
--json missing/x||/proc/x||. -> cannot write {}: ...
--html missing/x||/proc/x||. -> cannot write {}: ...
--latex missing/x||/proc/x||. -> cannot write {}: ...
--bogus||extra -> unrecognized arguments: {}
"""

REALDATA = """
bogus -> command 'bogus' is unknown; allowed: check, run, sweep, report
check -> the following arguments are required: NAME
check bogus||--root=. -> ...
check cifar_mnist -> --root is not given; allowed: the folder that contains the data set, or set $SAMBALANCE_DATA
check cifar_mnist --root missing||file.txt
    -> --root='{}' is not a folder; allowed: the folder that contains the data set
check pacs --root . --target bogus -> target='bogus' is not known; allowed: art_painting, cartoon, photo, sketch
check pacs --root . --holdout 2 -> holdout=2.0; allowed: a number > 0 and < 1
check pacs --root . --seed -1 -> seed=-1; allowed: a whole number >= 0
check pacs --root . --bogus -> unrecognized arguments: --bogus
download -> the following arguments are required: NAME, --root
download mnist -> the following arguments are required: --root
download bogus --root . -> data='bogus' is not known; allowed: mnist, fashion_mnist, cifar10
download celeba --root . -> data='celeba' has terms that you must accept yourself
report -> --out='out/sweep' is not a folder; allowed: the output folder of sweep or predict
report --out missing||file.txt -> --out='{}' is not a folder; allowed: the output folder of sweep or predict
report --out . --with x -> --with='x' without --html; allowed: only together with --html
report --out . -> results.parquet does not exist; allowed: a results.parquet that a sweep has written
report --out . --html -> results.json does not exist; allowed: results.json beside results.parquet
phase_plane -> --out='out/predict' has no folder runs; allowed: the output folder of sweep or predict
phase_plane --out missing -> --out='missing' has no folder runs; allowed: the output folder of sweep or predict
"""

RUN = """
 -> the following arguments are required: data
bogus --root . -> data='bogus' is not known; allowed: celeba
cifar_mnist -> --root is not given; allowed: the folder that contains the data set
cifar_mnist --root missing -> --root='missing' is not a folder; allowed: the folder that contains the data set
pacs --root . -> option target of pacs is not given; the environment that is not trained on
pacs --root . --target bogus -> target='bogus' is not known; allowed: art_painting, cartoon, photo, sketch
"""

RUN_CIFAR_MNIST = """
--device bogus||cuda||cuda:99 -> device='{}' cannot be used (...); allowed: auto, cpu
--protocol bogus -> protocol='bogus' is not known; allowed: fast, dfr
--probe-option x -> --probe-option='x'; allowed: KEY=VALUE
--probe-option bogus=1 -> probe option 'bogus' is unknown; allowed: solver
--evaluation-seed -1 -> evaluation_seed=-1; allowed: a whole number >= 0
--evaluation-seed 99999999999999999999 -> evaluation_seed=99999999999999999999; allowed: a whole number in 0..
--evaluation-seed x -> argument --evaluation-seed: invalid int value: 'x'
--seed 99999999999999999999 -> seed=99999999999999999999; allowed: a whole number in 0..
--out file.txt -> --out=file.txt: cannot write there (File exists); allowed: a writable folder
--model bogus -> model='bogus'; allowed: small_cnn
--model-option width=x -> model option width='x'; allowed: a whole number
--model-option width=0 -> model_options['width']=0; allowed: a whole number >= 1
--model-option bogus=1 -> model_options['bogus']=1 of model 'small_cnn'; allowed options: width
--model-option width -> --model-option='width'; allowed: KEY=VALUE
--model-option width=1 --model-option width=2 -> --model-option width= is given 2 times; allowed: once
--data-option bogus=1 -> option 'bogus' is unknown to cifar_mnist; allowed: classes
--correlation 2 -> correlation=2.0; allowed: a number from 0 to 1
--correlation x -> correlation='x'; allowed: a number
--data-option correlation=0.5 --correlation 0.5 -> --correlation and --data-option correlation= are both given; allowed
--method sgd --rho 0.1 -> rho=0.1 with method='sgd'; allowed: 0, or one of sam
--method sam -> rho=0 with method='sam'; allowed: a finite number > 0, or method='sgd'
--effect weights -> effect='weights' with method='sgd'; allowed: 'full'
--method bogus -> method='bogus' is not known; allowed: sgd, sam
--effect bogus -> effect='bogus' is not known; allowed: full, weights, jacobian
--base bogus -> base='bogus' is not known; allowed: sgd, adam, adamw
--schedule bogus -> schedule='bogus' is not known; allowed: constant, cosine, step
--augmentation bogus -> augmentation='bogus' is not known; allowed: none, flip
--precision float64 -> precision='float64' is not known; allowed: float32
--on-decode-error bogus -> on_decode_error='bogus' is not known; allowed: fatal, skip
--levels 0.1,x -> argument --levels: levels='x'; allowed: a number
--levels 0 -> levels=0.0; allowed: finite numbers > 0
--size 0 -> size=0; allowed: a whole number >= 1
--momentum 1 -> momentum=1.0; allowed: a number in [0, 1)
--batch-size true||1.5 -> argument --batch-size: batch_size='{}'; allowed: a whole number
extra -> unrecognized arguments: extra
"""

SWEEP = """
missing.yaml -> missing.yaml: No such file or directory; allowed: a YAML file with the settings of a sweep
. -> .: Is a directory; allowed: a YAML file with the settings of a sweep
--seeds 3 -> setting 'data' is not given; allowed: the name of a data set, or a list of them
--data bogus --root . -> data='bogus' is not known; allowed: celeba
--data cifar_mnist -> root of cifar_mnist is not given; allowed: --root DIR, or root: DIR in the file
--data cifar_mnist --root missing -> root='missing' of cifar_mnist is not a folder; allowed: the folder that contains
--data cifar_mnist --root . --seeds 0 -> seeds=0; allowed: a whole number >= 1
--data cifar_mnist --root . --seeds 1000000000||99999999999999999999 -> seeds={}: ... trainings need about
--data cifar_mnist --root . --seed , -> argument --seed: seed=',' is empty; allowed: values separated by commas
--data cifar_mnist --root . --rho x -> argument --rho: rho='x'; allowed: a number
--data cifar_mnist --root . --rho -1 -> rho=-1.0; allowed: a finite number >= 0
--data cifar_mnist --root . --method sgd --rho 0.1 -> rho=[0.1] with method 'sgd' alone; allowed: 0, or further methods
--data cifar_mnist --root . --method sam -> rho=[0.0] with method 'sam'; allowed: at least one radius > 0
--data cifar_mnist --root . --workers 0||99999999999 -> workers={}; allowed: 1 to 4096
--data cifar_mnist --root . --threads 0||99999999999 -> threads={}; allowed: 1 to 4096
--data cifar_mnist --root . --device bogus||cuda -> device='{}' cannot be used (...); allowed: auto, cpu
--data cifar_mnist --root . --data-option pacs.target=x -> data option 'pacs.target' is for 'pacs'; allowed here:
--data cifar_mnist --root . --out file.txt -> --out=file.txt: cannot write there (File exists); allowed: a writable
--data cifar_mnist --root . --evaluation-seed -1 -> evaluation_seed=-1; allowed: a whole number >= 0
"""

PLANS = {
    "": "plan.yaml contains NoneType; allowed: settings, one 'name: value' per line",
    "- 1": "plan.yaml contains list; allowed: settings, one 'name: value' per line",
    "a: [1": "plan.yaml is not YAML: while parsing a flow sequence",
    "data: !!python/object:os.system x": "plan.yaml is not YAML: could not determine a constructor",
    "x: " + "[" * 3000 + "]" * 3000: "plan.yaml is nested too deeply; allowed: settings, one 'name: value' per line",
    "a: &x [*x]": "setting 'a' is unknown; allowed: data",
    "root: 5": "root=5; allowed: the path of a folder",
    "out: 5": "out=5; allowed: the path of a folder",
    "out: null": "out=None; allowed: the path of a folder",
    "roots: 5": "roots=5; allowed: settings, one 'name: value' per line",
    "roots: {cifar_mnist: [1]}": "roots: cifar_mnist=[1]; allowed: the path of a folder",
    "data: 5": "data='5' is not known; allowed: celeba",
    "data: {a: 1}": "data={'a': 1}; allowed: one word or phrase",
    "rho: {a: 1}": "rho=[{'a': 1}]; allowed: numbers >= 0",
    "rho: x": "rho=['x']; allowed: numbers >= 0",
    "levels: 3": "levels=3; allowed: a list of values, each a number",
    "levels: [a]": "levels='a'; allowed: a number",
    "lr: [[1]]": "lr=[1]; allowed: a number",
    "lr: []": "lr=[]; allowed: at least one value",
    "lr: .nan": "lr=nan; allowed: a finite number > 0",
    "epochs: 1.5": "epochs=1.5; allowed: a whole number",
    "epochs: yes": "epochs=True; allowed: a whole number",
    "bogus: 1": "setting 'bogus' is unknown; allowed: data",
    "5: 1": "setting 5 is unknown; allowed: data",
    "seeds: 0": "seeds=0; allowed: a whole number >= 1",
    "seeds: x": "seeds='x'; allowed: a whole number >= 1",
    "seeds: 1000000000": "seeds=1000000000: 1,000,000,000 trainings need about",
    "seed: [a]": "seed='a'; allowed: a whole number",
    "seed: -1": "seed=-1; allowed: a whole number >= 0",
    "{seed: 1, seeds: 2}": "both seeds and seed are given; allowed: one of them",
    "grids: 5": "grids=5; allowed: a list of settings",
    "grids: []": "grids=[]; allowed: a list of settings",
    "grids: [1]": "grids=[1]; allowed: a list of settings",
    "grids: [{out: x}]": "setting 'out' is inside a grid; allowed: only outside of grids",
    "data_options: 5": "data_options=5; allowed: settings, one 'name: value' per line",
    "data_options: {bogus: 1}": "option 'bogus' is unknown to cifar_mnist; allowed: classes",
    "model_options: {width: {a: 1}}": "model_options['width']={'a': 1}; allowed: a whole number >= 1",
    "protocol: 5": "protocol='5' is not known; allowed: fast, dfr",
    "probe_options: 5": "probe_options=5; allowed: settings, one 'name: value' per line",
    "probe_options: {draws: x}": "probe option draws='x'; allowed: a whole number",
    "evaluation_seed: x": "evaluation_seed='x'; allowed: a whole number",
}
"""Content of a sweep's file, and what is wrong with it. A setting of its own is joined to data and root."""

PREDICT = """
--seeds 3 -> neither --data nor a file is given, and out/predict/settings.json does not exist; allowed: --data, a file
--data bogus --root . -> data='bogus' is not known; allowed: celeba
--data cifar_mnist -> root of cifar_mnist is not given; allowed: --root DIR, or root: DIR in the file
--data cifar_mnist --root missing -> root='missing' of cifar_mnist is not a folder; allowed: the folder that contains
--data cifar_mnist --root . --predictions R9 -> predictions='R9'; allowed: R1, R2
--data cifar_mnist --root . --predictions , -> predictions is empty; allowed: R1, R2
--data cifar_mnist --root . --rho 0||-1||nan||1e999 -> rho=...; allowed: finite numbers > 0
--data cifar_mnist --root . --rho x -> argument --rho: invalid float value: 'x'
--data cifar_mnist --root . --radii x -> radii='x'; allowed: a number
--data cifar_mnist --root . --radii -1||nan -> radii=...; allowed: finite numbers > 0
--data cifar_mnist --root . --seeds 0 -> seeds=0; allowed: a whole number >= 1
--data cifar_mnist --root . --seeds x -> argument --seeds: invalid int value: 'x'
--data cifar_mnist --root . --seeds 1000000000 -> seeds=1000000000: 1,000,000,000 seeds need about
--data cifar_mnist --root . --scan-seeds 0 -> scan_seeds=0; allowed: a whole number >= 1
--data cifar_mnist --root . --scan-seeds 1000000000 -> scan_seeds=1000000000: 1,000,000,000 seeds need about
--data cifar_mnist --root . --embedding bogus -> embedding='bogus'; allowed: pixels, or frozen:NAME
--data cifar_mnist --root . --epochs x -> argument --epochs: epochs='x'; allowed: a whole number
--data cifar_mnist --root . --method sam -> unrecognized arguments: --method
--data cifar_mnist --root . --device bogus -> device='bogus' cannot be used (...); allowed: auto, cpu
"""

FEATURE_DIAGRAM = """
--engine triton -> engine='triton' is not available: no GPU was found
--engine bogus -> engine='bogus' is not known; allowed: auto, triton, cpu, reference
--basis||--network||--rule||--metric||--effect bogus -> argument {}: invalid choice: 'bogus' (choose from
--examples 0||-5 -> --examples={}; allowed: 8 or more, two per group
--probe-noise 0||nan||-1 -> --probe-noise={}; allowed: > 0
--level -1||nan -> loss_levels=[...]; allowed: distinct numbers > 0
--levels x -> --levels 'x'; allowed: numbers separated by commas
--levels , -> --levels ',' is empty; allowed: numbers separated by commas
--seeds 0 -> seeds=0; allowed: a whole number >= 1
--seeds 1000000000 -> p 32 x rho 32 x seeds 1,000,000,000: ... runs need about
--x width=1:3:2 -> --x 'width=1:3:2': width cannot be an axis here; allowed: rho, p
--x rho=1 -> --x 'rho=1' has 1 value; allowed: at least 2
--rho 0.5 -> rho is both an axis (--x) and fixed at 0.5; allowed: one of them
--size 0||-3 -> size={}; allowed: a whole number >= 1
--data-option bogus=1 -> option 'bogus' is unknown to cifar_mnist; allowed: classes
--data-option x -> --data-option='x'; allowed: KEY=VALUE
"""

WATERBIRDS_HEADER = "img_id,img_filename,y,split,place\n"
METADATA: dict[str | bytes, str] = {
    "": "metadata.csv holds no rows",
    "a,b\n1,2\n": "metadata.csv has no column 'img_filename' (it has a, b)",
    WATERBIRDS_HEADER + "1,a.jpg,0,0\n": "metadata.csv, row 1 of the data: 4 cells for 5 columns",
    WATERBIRDS_HEADER + "1,a.jpg,0,0,0\n1,b.jpg,7,0,0\n": "metadata.csv, row 2 of the data: y is '7'",
    WATERBIRDS_HEADER + "1,a.jpg,x,0,0\n": "metadata.csv, row 1 of the data: y is 'x'",
    WATERBIRDS_HEADER + "1,a.jpg,0,0,0\n1," + "b" * 200_000 + ",0,0,0\n":
        "metadata.csv, row 2 of the data: field larger than field limit",
    WATERBIRDS_HEADER + "1,a\0.jpg,0,0,0\n": "metadata.csv, line 2: a zero byte",
    b"\xff\xfe\x00img": "metadata.csv cannot be read ('utf-8' codec can't decode byte 0xff",
    WATERBIRDS_HEADER + "1,a.jpg,0,0,0\n": "1 of 1 images named in metadata.csv are missing in .: a.jpg",
    WATERBIRDS_HEADER + "1,../a.jpg,0,0,0\n": "row 1 of the table names '../a.jpg', which leads out of .",
    WATERBIRDS_HEADER + "1,/etc/passwd,0,0,0\n": "row 1 of the table names '/etc/passwd', which leads out of .",
}  # fmt: skip
"""Content of a metadata.csv, and what ``check waterbirds`` finds wrong with it."""

ROWS = '{"configuration": %s, "hash": "a", "evaluation": {}, "status": "done", "checkpoints": {}}'
DAMAGED: dict[tuple[str, str], str] = {
    (
        "o/runs/a/rows.json",
        "[1, 2]",
    ): "o/runs/a/rows.json holds a list where an object is needed; allowed: the rows.json",
    (
        "o/runs/a/rows.json",
        "{}",
    ): "o/runs/a/rows.json lacks configuration, hash, evaluation, status, checkpoints; allowed",
    ("o/runs/a/rows.json", "x"): "o/runs/a/rows.json cannot be read as JSON (Expecting value",
    ("o/runs/a/rows.json", "[" * 100_000): "o/runs/a/rows.json is nested too deeply; allowed: the rows.json of a job",
    ("o/runs/a/rows.json", ROWS % "{}"): "o/runs/a/rows.json is damaged; allowed: the rows.json of a job",
    ("o/runs/a/rows.json", ROWS % "[1]"): "o/runs/a/rows.json is damaged; allowed: the rows.json of a job",
    ("o/runs/a/failed.json", "[]"): "o/runs/a/failed.json holds a list where an object is needed; allowed: the failed",
    (
        "o/runs/a/failed.json",
        "{}",
    ): "o/runs/a/failed.json lacks reason, configuration; allowed: the failed.json of a job",
    ("o/runs/a/failed.json", ""): "o/runs/a/failed.json cannot be read as JSON (Expecting value",
    ("o/plan.json", "[1]"): "o/plan.json holds a list where an object is needed; allowed: the plan.json of a sweep",
    ("o/plan.json", '{"a": 5}'): "o/plan.json, a: 5 is no configuration; the file can be removed",
    ("o/plan.json", '{"a": {}}'): "o/plan.json, a: {} is no configuration; the file can be removed",
    ("o/plan.json", "{"): "o/plan.json cannot be read as JSON (Expecting property name",
    ("o/plan.json", "[" * 100_000): "o/plan.json is nested too deeply; allowed: the plan.json of a sweep",
}
"""A damaged file in the folder of a sweep, and what ``report`` says."""

SETTINGS = {
    "[1]": "settings.json holds a list where an object is needed; allowed: the settings of the last call",
    "x": "settings.json cannot be read as JSON (Expecting value",
    '{"bogus": 1}': "data=None; allowed: the name of a data set, or a list of them",
}
"""Settings of the last call of predict, and what is wrong with them."""

NUMBERS_OF_A_RUN = {
    "--rho --weight-decay --warmup-epochs": {
        "nan": "{name}=nan; allowed: a finite number >= 0", "-1": "{name}=-1.0; allowed: a finite number >= 0",
        "1e999": "{name}=inf; allowed: a finite number >= 0", "x": "argument {flag}: {name}='x'; allowed: a number",
    },
    "--lr --stop-level": {
        "nan": "{name}=nan; allowed: a finite number > 0", "-1": "{name}=-1.0; allowed: a finite number > 0",
        "1e999": "{name}=inf; allowed: a finite number > 0", "x": "argument {flag}: {name}='x'; allowed: a number",
    },
    "--momentum": {
        "nan": "{name}=nan; allowed: a", "-1": "{name}=-1.0; allowed: a", "1e999": "{name}=inf; allowed: a",
        "x": "argument {flag}: {name}='x'; allowed: a number",
    },
    "--batch-size --epochs --evaluations-per-epoch --size --evaluation-examples": {
        "nan": "argument {flag}: {name}='nan'; allowed: a whole number",
        "-1": "{name}=-1; allowed: a whole number >= 1",
        "1e999": "argument {flag}: {name}='1e999'; allowed: a whole number",
        "x": "argument {flag}: {name}='x'; allowed: a whole number",
    },
}  # fmt: skip
"""Flags of ``run`` and ``sweep``."""


def cases() -> list[Case]:
    """All of them."""
    return list(_cases())


def _cases() -> Iterator[Case]:
    text_file: dict[str, Content] = {"file.txt": "x"}
    for flags, messages in TOY_PARAMETERS.items():
        yield from family("toymodels.phase_diagram", flags, messages)
        yield from family("toymodels.trajectories", flags, {"1e999": messages["1e999"]})
    zeros: Content = b"\x89HDF\r\n\x1a\n" + bytes(2000)
    yield from lines("toymodels.phase_diagram", PHASE_DIAGRAM, files={**text_file, "zeros.nc": zeros})
    yield from lines("toymodels.trajectories", TRAJECTORIES, files=text_file)
    yield from lines("toymodels.filter", FILTER, files=text_file)
    yield from lines("toymodels.validate", VALIDATE, files=text_file)
    yield from lines("toymodels.beyond", BEYOND, files=text_file)
    yield from lines("proofs_check", PROOFS)
    threads = "--steps 5 -> OMP_NUM_THREADS='...'; allowed: 1 to 4096 threads"
    for number in ("99999999999999999999", "5000"):
        yield from lines("toymodels.phase_diagram", threads, variables={"OMP_NUM_THREADS": number})
    yield from lines("realdata", REALDATA, files=text_file)
    yield from lines("realdata run", RUN)
    yield from lines("realdata run cifar_mnist --root .", RUN_CIFAR_MNIST, files=text_file)
    for flags, messages in NUMBERS_OF_A_RUN.items():
        yield from family("realdata run cifar_mnist --root .", flags, messages)
        yield from family("realdata sweep --data cifar_mnist --root .", flags, {"-1": messages["-1"]})
    yield from lines("realdata sweep", SWEEP, files=text_file)
    for content, expected in PLANS.items():
        shown = content if len(content) < 60 else content[:20] + "..."
        yield from _one("realdata sweep plan.yaml", shown, expected, {"plan.yaml": _whole_plan(content)})
    yield from lines("realdata predict", PREDICT)
    for content, expected in SETTINGS.items():
        yield from _one("realdata predict --out .", content, expected, {"settings.json": content})
    yield from lines("realdata phase_diagram --data cifar_mnist --root .", FEATURE_DIAGRAM)
    for metadata, expected in METADATA.items():
        yield from _one(
            "realdata check waterbirds --root .", str(metadata)[-40:], expected, {"metadata.csv": metadata}, True
        )
    for (name, content), expected in DAMAGED.items():
        yield from _one("realdata report --out o", f"{name} {content[:40]}", expected, {name: content, "o/runs": None})


def _one(
    command: str, shown: str, expected: str, files: Mapping[str, Content], on_stdout: bool = False
) -> Iterator[Case]:  # fmt: skip
    """One case, whose bad input is a file."""
    yield Case(f"{command}  # {shown!r}", _action(command, ""), expected, files, on_stdout=on_stdout)


def _whole_plan(content: str) -> str:
    """A single setting with those that a plan needs beside it; what is no setting stays as it is."""
    name = content.lstrip("{").partition(":")[0]
    if not content or content[0] in "-" or name in ("a", "x") or "!!" in content:
        return content
    if content.startswith("{"):
        content = content.strip("{}").replace(", ", "\n")
    beside = {"data": "cifar_mnist", "root": "."}
    return "\n".join([content, *(f"{key}: {value}" for key, value in beside.items() if key != name)])
