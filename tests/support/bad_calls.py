"""Tables of bad calls from Python; see support/bad_input_cases.py for the notation."""

from __future__ import annotations

# ruff: noqa: F401 - the tables use them
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kernels.engine import train
from kernels.problem import TrainingProblem
from kernels.sam.optimizer import SAM
from realdata.configuration import RunConfiguration
from realdata.measures.protocols import protocol
from realdata.settings.completion import complete
from realdata.settings.plan import make_plan
from realdata.values import convert_value, single_values
from sambalance_tools.checks import require_choice, require_whole
from sambalance_tools.files import check_writable, read_json_object, write_text
from sambalance_tools.memory import require_memory
from sambalance_tools.statistics import holm, smallest_detectable_effect, t_interval
from support.bad_input_cases import Case, rows
from toymodels import theory
from toymodels.data import data_kind
from toymodels.filter.study import run_filter
from toymodels.networks import Patches, network
from toymodels.parameters import parameter
from toymodels.rules import rule
from toymodels.simulation import load_datasets, simulate
from toymodels.sweep import Sweep

ONES, MANY = np.ones(3), [0.1] * 10_000

TRAINING_PROBLEMS = """
# data
problem(features=5) -> features has shape (); allowed: 3 dimensions
problem(features=[[1.0]]) -> features has shape (1, 1); allowed: 3 dimensions
problem(features='x') -> features is not numeric: 'x'
problem(features=None) -> features is not numeric: None
problem(features=[[[1, 2], [3]]]) -> features is not numeric: [[[1, 2], [3]]]
problem(features=np.ones((1, 2, 2), complex)) -> features is not numeric: an array of complex128
problem(features=np.zeros((1, 0, 2))) -> features has shape (1, 0, 2): at least one sample and one feature are needed
problem(features=np.zeros((1, 2, 0))) -> features has shape (1, 2, 0): at least one sample and one feature are needed
problem(features=np.full((1, 2, 2), np.nan)) -> features[0, 0, 0] is nan; allowed: finite numbers
problem(features=np.full((1, 2, 2), np.inf)) -> features[0, 0, 0] is inf; allowed: finite numbers
problem(features=np.ones((1, 2, 3))) -> initial_layers[0] has shape (3, 2); allowed: [runs or 1, 3]
problem(features=np.ones((2, 2, 2))) -> features has 2 runs where the problem has 3; allowed: 3 or 1
problem(labels=5) -> labels has shape (); allowed: 2 dimensions
problem(labels=[[0.0, 1.0]]) -> labels contains 0; allowed: -1 and +1
problem(labels=[[2.0, 1.0]]) -> labels contains 2; allowed: -1 and +1
problem(labels=[[1.0]]) -> labels has shape (1, 1); allowed: [runs or 1, 2]
problem(labels=[[1.0, np.nan]]) -> labels[0, 1] is nan; allowed: finite numbers
problem(labels='x') -> labels is not numeric: 'x'
problem(labels=None) -> labels is not numeric: None
problem(labels=np.ones((2, 2))) -> labels has 2 runs where the problem has 3; allowed: 3 or 1
problem(sample_weights=[[0.5, 0.4]]) -> sample_weights: a row sums to 0.9; allowed: every row sums to 1
problem(sample_weights=[[1.5, -0.5]]) -> sample_weights contains -0.5; allowed: >= 0
problem(sample_weights=[[1.0]]) -> sample_weights has shape (1, 1); allowed: [runs or 1, 2]
problem(sample_weights=[0.5, 0.5]) -> sample_weights has shape (2,); allowed: 2 dimensions
problem(sample_weights=[[np.nan, 1]]) -> sample_weights[0, 0] is nan; allowed: finite numbers
problem(feature_scale=[[1.0]]) -> feature_scale has shape (1, 1); allowed: [runs or 1, 2]
problem(feature_scale=[[np.inf, 1]]) -> feature_scale[0, 0] is inf; allowed: finite numbers
problem(feature_scale=5) -> feature_scale has shape (); allowed: 2 dimensions

# networks
problem(initial_layers=5) -> initial_layers=5; allowed: a sequence of arrays, one per layer
problem(initial_layers=None) -> initial_layers=None; allowed: a sequence of arrays, one per layer
problem(initial_layers='ab') -> initial_layers='ab'; allowed: a sequence of arrays, one per layer
problem(initial_layers=()) -> initial_layers has 0 layers; a diagonal network needs at least 2
problem(initial_layers=(np.ones((3, 2)),)) -> initial_layers has 1 layers; a diagonal network needs at least 2
problem(initial_layers=(np.ones((3, 2)), np.ones((3, 3))))
    -> initial_layers[1] has shape (3, 3); allowed: [runs or 1, 2]
problem(initial_layers=(np.ones((3, 2)), np.ones((2, 2)))) -> initial_layers[1] has 2 runs where the problem has 3
problem(initial_layers=(np.ones(2), np.ones(2))) -> initial_layers[0] has shape (2,); allowed: 2 dimensions
problem(initial_layers=(np.ones((0, 2)), np.ones((0, 2)))) -> initial_layers[0] has 0 runs where the problem has 1
problem(initial_layers=(np.full((3, 2), np.inf), np.ones((3, 2)))) -> initial_layers[0][0, 0] is inf; allowed: finite
two_layer(initial_layers=(np.ones((3, 4, 2)),)) -> initial_layers has 1 layers; a two_layer network needs (W, v)
two_layer(initial_layers=(np.ones((3, 0, 2)), np.ones((3, 0)))) -> initial_layers[0] has shape (3, 0, 2); at least one
two_layer(initial_layers=(np.ones((3, 4, 3)), np.ones((3, 4)))) -> initial_layers[0] has shape (3, 4, 3); allowed:
two_layer(initial_layers=(np.ones((3, 4, 2)), np.ones((3, 5)))) -> initial_layers[1] has shape (3, 5); allowed:
two_layer(initial_layers=(np.ones((3, 4)), np.ones((3, 4))))
    -> initial_layers[0] has shape (3, 4); allowed: 3 dimensions
two_layer(norm_over='feature') -> norm_over='feature': features of a two_layer network share their weights; allowed:
two_layer(activation='tanh') -> activation='tanh' is not known; allowed: linear, relu
problem(activation='relu') -> activation='relu': a diagonal network is linear; use network='two_layer'
problem(network='patches') -> features has shape (1, 2, 2); allowed: 4 dimensions

# rule, steps, what is kept
problem(momentum=1.0) -> momentum=1; allowed: 0 <= momentum < 1
problem(sam_from=None) -> sam_from=None; allowed: whole numbers
problem(norm='linf', norm_over='layer') -> norm_over='layer': norm='linf' has none; allowed: l2, adaptive
problem(steps=None) -> steps=None; allowed: a whole number >= 0
problem(batch_size=0) -> batch_size=0; allowed: a whole number >= 1
problem(batch_seed=-1) -> batch_seed contains -1; allowed: 0 to 2^64 - 1
problem(batch_seed=2**64) -> batch_seed contains 18446744073709551616; allowed: 0 to 2^64 - 1
problem(batch_seed=1.5) -> batch_seed=1.5; allowed: a whole number or one per run, [B]
problem(batch_seed='x') -> batch_seed='x'; allowed: a whole number or one per run, [B]
problem(batch_seed=True) -> batch_seed=True; allowed: a whole number or one per run, [B]
problem(batch_seed=[[1]]) -> batch_seed=[[1]]; allowed: a whole number or one per run, [B]
problem(batch_seed=[1, 2]) -> batch_seed has 2 runs where the problem has 3; allowed: 3 or 1
problem(record_steps=[-1]) -> record_steps=[-1]; allowed: increasing steps in 0..10
problem(record_steps=[11]) -> record_steps=[11]; allowed: increasing steps in 0..10
problem(record_steps=[2, 1]) -> record_steps=[2, 1]; allowed: increasing steps in 0..10
problem(record_steps=[1, 1]) -> record_steps=[1, 1]; allowed: increasing steps in 0..10
problem(record_steps=[1.5]) -> record_steps=[1.5]; allowed: whole numbers
problem(record_steps=[True]) -> record_steps=[True]; allowed: whole numbers
problem(record_steps=[2**70]) -> record_steps=[1180591620717411303424]; allowed: whole numbers
problem(loss_levels=[0.0]) -> loss_levels contains 0; allowed: > 0
problem(loss_levels=[-1.0]) -> loss_levels contains -1; allowed: > 0
problem(loss_levels=[np.nan]) -> loss_levels[0] is nan; allowed: finite numbers
problem(loss_levels='x') -> loss_levels is not numeric: 'x'
problem(loss_levels=None) -> loss_levels is not numeric: None
problem(bogus=1) -> TypeError: TrainingProblem.__init__() got an unexpected keyword argument 'bogus'
TrainingProblem() -> TypeError: TrainingProblem.__init__() missing 3 required positional arguments: 'features'
replace(problem(), steps=-1) -> steps=-1; allowed: a whole number >= 0
replace(problem(), eta='x') -> eta is not numeric: 'x'
"""

TRAIN = """
train(5) -> problem=5; allowed: a TrainingProblem
train(None) -> problem=None; allowed: a TrainingProblem
train(problem(), engine='bogus') -> engine='bogus' is not known; allowed: auto, triton, cpu, reference
train(problem(), engine=None) -> engine=None is not known; allowed: auto, triton, cpu, reference
train(problem(), engine='triton') -> Unavailable: engine='triton' is not available: no GPU was found
train(problem(), engine='reference', precision='float32') -> engine='reference' does not support precision='float32'
train(problem(), precision='float16') -> precision='float16' is not known; allowed: float32, float64
train(problem(), precision=32) -> precision=32 is not known; allowed: float32, float64
train(problem(), threads=0) -> threads=0; allowed: a whole number >= 1
train(problem(), threads=1.5) -> threads=1.5; allowed: a whole number >= 1
train(problem(), engine='cpu', threads=10**6) -> threads=1000000; allowed: a whole number in 1..4096
train(problem(), engine='cpu', threads=10**20) -> threads=100000000000000000000; allowed: a whole number in 1..4096
train(problem(), progress=5) -> progress=5; allowed: a function of (steps done, steps in all), or None
train(problem(initial_layers=[np.ones((3, 2))] * 65), engine='cpu')
    -> engine='cpu' does not support diagonal networks of
"""

TOOLS = """
require_whole('n', 2.0, 1) -> n=2.0; allowed: a whole number >= 1
require_whole('n', 5, 1, 4) -> n=5; allowed: a whole number in 1..4
require_whole('n', None, 1) -> n=None; allowed: a whole number >= 1
require_choice('n', 'x', ('a', 'b')) -> n='x' is not known; allowed: a, b
require_choice('n', ['a'], ('a', 'b')) -> n=['a'] is not known; allowed: a, b
require_memory('n=9', 10**12, 10**6, 'runs')
    -> n=9: 1,000,000,000,000 runs need about 1,000 PB, and ... allowed here: up to
check_writable(Path('.')) -> IsADirectoryError: cannot write .: it is a directory
check_writable(Path('missing/x')) -> FileNotFoundError: cannot write missing/x: there is no directory missing
write_text('.', 'x') -> IsADirectoryError: ... it is a directory; allowed: a file
write_text('missing/x', 'x') -> FileNotFoundError: [Errno 2] No such file or directory: 'missing/x'
write_text('/dev/full', 'x') -> OSError: [Errno 28] No space left on device: '/dev/full'
read_json_object('missing.json', (), 'x') -> FileNotFoundError: [Errno 2] No such file or directory: 'missing.json'
read_json_object('.', (), 'a thing') -> . cannot be read as JSON (Is a directory); allowed: a thing
t_interval([]) -> values is empty; allowed: at least one number
t_interval([1.0, 2.0], confidence=2) -> confidence=2; allowed: a number in (0, 1)
holm([2.0]) -> p_values=[2.0]; allowed: numbers in [0, 1]
holm([-1]) -> p_values=[-1.0]; allowed: numbers in [0, 1]
smallest_detectable_effect(-1, 5) -> sd=-1; allowed: a number >= 0
smallest_detectable_effect(1, 1) -> n=1; allowed: a whole number >= 2
smallest_detectable_effect(1, 5, alpha=2) -> alpha=2, power=0.8; allowed: 0 < alpha < power < 1
"""

TOYMODELS = """
parameter('bogus') -> parameter 'bogus' is not known; allowed: rho, mu_easy
parameter(5) -> parameter 5 is not known; allowed: rho, mu_easy
parameter('rho').check('x') -> rho='x'; allowed: a number
parameter('rho').check(None) -> rho=None; allowed: a number
parameter('steps').check(1.5) -> steps=1.5; allowed: a whole number in [1, 1e+09]
network('bogus') -> network='bogus' is not known; allowed: diagonal, linear, relu, patches
network('relu', head='local') -> head='local': allowed with network patches only
network('diagonal', bias=True) -> bias=True: a diagonal network has no bias
network('patches', bias=True) -> bias=True: a patches network has no bias
network('patches', head='bogus') -> head='bogus'; allowed: local, pooled or a number of windows
network('patches', head=0) -> head=0; allowed: a whole number >= 1
network('patches', activation='bogus') -> activation='bogus' is not known; allowed: linear, relu
network('linear', activation='relu') -> activation='relu': allowed with network patches only
Patches(head=-1) -> head=-1; allowed: a whole number >= 1
Patches(activation=5) -> activation=5 is not known; allowed: linear, relu
rule('bogus') -> rule='bogus' is not known; allowed: gd, sam, lsam
rule('sam', 'bogus') -> effect='bogus' is not known; allowed: full, weights, jacobian
rule('sam').with_effect('bogus') -> effect='bogus' is not known; allowed: full, weights, jacobian
data_kind('bogus') -> data='bogus'
Sweep(seeds=0) -> seeds=0; allowed: a whole number >= 1
Sweep(seeds=True) -> seeds=True; allowed: a whole number >= 1
Sweep(seeds=10**12) -> seeds 1,000,000,000,000: ... runs need about
Sweep(seeds=10**30) -> seeds=1000000...; allowed: a number from 1 to
Sweep(loss='bogus') -> loss='bogus' is not known; allowed: logistic, exponential, squared
Sweep(values={'bogus': 1}) -> parameter 'bogus' is not known; allowed: rho
Sweep(axes={'bogus': [1]}) -> parameter 'bogus' is not known; allowed: rho
Sweep(axes={'rho': []}) -> axis rho has shape (0,); allowed: a list of at least one value
Sweep(axes={'rho': [1, 0]}) -> axis rho=[1.0, 0.0] is not increasing; allowed: increasing values, none twice
Sweep(axes={'rho': ['x']}) -> axis rho=['x'] is not numeric
Sweep(values={'rho': 1}, axes={'rho': [1]}) -> rho is given both as a value (1) and as an axis; allowed: one of them
Sweep(values={'mu_hard': 5}) -> mu_hard=5 exceeds mu_easy=2; allowed: mu_hard <= mu_easy
Sweep(values={'width': 10**9}, network=network('relu')) -> width=1000000000: ... numbers of one run need about
Sweep(values={'samples': 10**9, 'noise_easy': 0.1}) -> samples=1000000000: ... numbers of one run need about
simulate(Sweep(seeds=1), engine='bogus') -> engine='bogus' is not known; allowed: auto, triton, cpu, reference
simulate(Sweep(seeds=1), engine='triton') -> Unavailable: engine='triton' is not available: no GPU was found
simulate(Sweep(seeds=1), precision='x') -> precision='x' is not known; allowed: float32, float64
simulate(Sweep(seeds=1), threads=-1) -> threads=-1; allowed: a whole number >= 1
load_datasets('missing.nc', (), 'a thing') -> --from=missing.nc cannot be read as a thing (
run_filter(features=1) -> features=1; allowed: a whole number >= 2
run_filter(features=10**12) -> features=1000000000000, ... features of a run need about
run_filter(rho=[-1]) -> rho=[-1.0]; allowed: >= 0
run_filter(strengths=(2, 1)) -> strengths=(2, 1); allowed: 0 < low < high
run_filter(init=0) -> init=0; allowed: a number in [1e-09, 1e+09]
run_filter(eta=np.inf) -> eta=inf; allowed: a number in [1e-09, 1e+09]
run_filter(levels=()) -> levels=[]; allowed: between 0 and the loss at the start
run_filter(levels=[9.0]) -> levels=[9.0]; allowed: between 0 and the loss at the start
theory.last_layer_phantom_margins(0.0, 1.0, 1.0, 1.0, 1.0, 0.1) -> features has shape (); allowed: [S, D]
theory.last_layer_phantom_margins(ONES, ONES, ONES, ONES, ONES, 0.1) -> features has shape (3,); allowed: [S, D]
theory.last_layer_phantom_margins(np.ones(2), np.eye(3), ONES, ONES, ONES, 0.1) -> margins has shape (2,); allowed: [3]
theory.last_layer_phantom_margins(ONES, np.eye(3), 1.0, ONES, ONES, 0.1) -> labels has shape (); allowed: [3]
theory.last_layer_phantom_margins(ONES, np.eye(3), ONES, np.ones(4), ONES, 0.1)
    -> sample_weights has shape (4,); allowed:
theory.last_layer_phantom_margins(ONES, np.eye(3), ONES, ONES, np.eye(3), 0.1)
    -> example_weights has shape (3, 3); allowed:
"""

REALDATA = """
run(seed=-1) -> seed=-1; allowed: a whole number >= 0
run(seed=1.0) -> seed=1.0; allowed: a whole number >= 0
run(seed=2**63) -> seed=9223372036854775808; allowed: a whole number in 0..
run(levels=[0]) -> levels=0; allowed: finite numbers > 0
run(levels=['x']) -> levels='x'; allowed: finite numbers > 0
run(levels=5) -> levels=5; allowed: finite numbers > 0
run(levels=None) -> levels=None; allowed: finite numbers > 0
run(levels='0.1') -> levels='0.1'; allowed: finite numbers > 0
run(data=5) -> data=5; allowed: a name
run(data=None) -> data=None; allowed: a name
run(data='') -> data=''; allowed: a name
run(model=5) -> model=5; allowed: a name
run(data_options=5) -> data_options=5; allowed: a mapping of names to values
run(data_options=[1]) -> data_options=[1]; allowed: a mapping of names to values
run(model_options='x') -> model_options='x'; allowed: a mapping of names to values
run(method='sam') -> rho=0 with method='sam'; allowed: a finite number > 0, or method='sgd'
run(rho=0.1) -> rho=0.1 with method='sgd'; allowed: 0, or one of sam
run(effect='weights') -> effect='weights' with method='sgd'; allowed: 'full'
run(momentum=1.0) -> momentum=1.0; allowed: a number in [0, 1)
run().replace(epochs=0) -> epochs=0; allowed: a whole number >= 1
run().replace(bogus=0) -> TypeError: RunConfiguration.__init__() got an unexpected keyword argument 'bogus'
RunConfiguration() -> TypeError: RunConfiguration.__init__() missing 1 required positional argument: 'data'
RunConfiguration.from_dict({'data': 'x', 'bogus': 1}) -> setting='bogus' is not known; allowed: augmentation
RunConfiguration.from_dict({}) -> configuration {}; allowed: settings by name, data among them
RunConfiguration.from_dict(5) -> configuration 5; allowed: settings by name, data among them
complete({'bogus': 1}) -> setting 'bogus' is unknown; allowed: data
complete({}) -> setting 'data' is not given; allowed: the name of a data set
complete({'data': 'bogus'}) -> data='bogus' is not known; allowed: celeba
complete({'data': 'cifar_mnist', 'epochs': 'x'}) -> epochs='x'; allowed: a whole number
make_plan({}) -> setting 'data' is not given; allowed: the name of a data set, or a list of them
make_plan({'data': 'cifar_mnist', 'seeds': 10**12}) -> seeds=1000000000000: 1,000,000,000,000 trainings need about
make_plan({'data': 'cifar_mnist', 'lr': MANY, 'momentum': MANY, 'weight_decay': MANY})
    -> this plan, ... trainings need about
convert_value('n', 'x', int) -> n='x'; allowed: a whole number
convert_value('n', float('inf'), int) -> n=inf; allowed: a whole number
convert_value('n', 1.5, int) -> n=1.5; allowed: a whole number
convert_value('n', None, int) -> n=None; allowed: a whole number
convert_value('n', True, float) -> n=True; allowed: a number
convert_value('n', 'maybe', bool) -> n='maybe'; allowed: true or false
convert_value('n', [1], str) -> n=[1]; allowed: one word or phrase
single_values(['a'], '--o') -> --o='a'; allowed: KEY=VALUE
single_values(['a=1', 'a=2'], '--o') -> --o a= is given 2 times; allowed: once
protocol('bogus') -> protocol='bogus' is not known; allowed: fast, dfr
protocol(5) -> protocol=5 is not known; allowed: fast, dfr
protocol('fast').replace(draws=-1) -> draws=-1; allowed: a whole number >= 1
protocol('fast').replace(confidence=2) -> confidence=2; allowed: a number in (0, 1)
protocol('fast').replace(repeats=0) -> repeats=0; allowed: a whole number >= 1
protocol('fast').replace(rho=-1) -> rho=-1; allowed: a finite number > 0
"""

SAM_OPTIONS = """
sam(rho=-1) -> ...rho...=-1; allowed:
sam(rho=np.nan) -> ...rho...=nan; allowed:
sam(rho=np.inf) -> ...rho...=inf; allowed:
sam(norm='bogus') -> norm='bogus' is not known; allowed: l2, linf, adaptive, none
sam(effect='bogus') -> effect='bogus' is not known; allowed: full, weights, jacobian
sam(perturb='bogus') -> perturb='bogus'; allowed: 'all', 'last-layer'
sam(eta=-1) -> eta=-1; allowed: a finite number >= 0
sam(micro_batch_perturbation='x') -> micro_batch_perturbation='x' is not known; allowed: global, local
sam(process_perturbation='x') -> process_perturbation='x' is not known; allowed: global, local
sam(accumulate='x') -> accumulate='x' is not known; allowed: mean, sum
sam(backend='x') -> backend='x' is not known; allowed: auto, foreach, triton
sam(base=5) -> base=5; allowed: a class such as torch.optim.SGD
sam([1, 2]) -> param_groups[0][0] is a int, not a parameter
SAM(torch.nn.Linear(1, 1), torch.optim.LBFGS) -> base=LBFGS evaluates the loss itself; allowed: optimizers that step
"""


def problem(**changes: Any) -> TrainingProblem:
    """A good problem of three runs, two samples and two features, with some arguments changed."""
    arguments: dict[str, Any] = {
        "features": np.array([[[2.0, 1.0], [1.0, 1.0]]]), "labels": np.array([[1.0, -1.0]]),
        "initial_layers": (np.full((3, 2), 0.4), np.full((3, 2), 0.4)), "steps": 10,
    }  # fmt: skip
    return TrainingProblem(**{**arguments, **changes})


def two_layer(**changes: Any) -> TrainingProblem:
    """The same for a two-layer network of four neurons."""
    layers = (np.full((3, 4, 2), 0.4), np.full((3, 4), 0.4))
    return problem(**{"network": "two_layer", "initial_layers": layers, **changes})


def run(**changes: Any) -> RunConfiguration:
    """A good configuration of a training on real data, with some settings changed."""
    return RunConfiguration(**{"data": "cifar_mnist", **changes})


def sam(*arguments: Any, **options: Any) -> SAM:
    """SAM around SGD for a small network."""
    return SAM(*(arguments or (torch.nn.Linear(3, 1),)), **{"lr": 0.1, **options})


def names() -> dict[str, Any]:
    """What the calls may use: the imports and functions above."""
    return dict(globals())


def _action(source: str) -> Callable[[], object]:
    code = compile(source, "<call>", "eval")

    def act() -> object:
        warnings.simplefilter("error")
        try:
            value = eval(code, names())
        except (ValueError, TypeError, OSError, RuntimeError) as error:
            kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
            print(f"error: {kind}{error}", file=sys.stderr)
            raise SystemExit(2) from None
        print(f"returns {value!r}"[:300], file=sys.stderr)
        return None

    return act


def family(call: str, arguments: str, expected: str) -> Iterator[tuple[str, str]]:
    """The call with each of the arguments (separated by blanks) in the place of ``{}``, in the message, too."""
    for name in arguments.split():
        yield call.replace("{}", name), expected.replace("{}", name)


def families() -> Iterator[tuple[str, str]]:
    """Calls that are alike but for an argument's name."""
    rates = "eta rho weight_decay momentum"
    yield from family("problem({}=-1.0)", rates, "{}=-1 is negative; allowed: {} >= 0")
    yield from family("problem({}=np.nan)", rates, "{} is nan; allowed: finite numbers")
    yield from family("problem({}=np.inf)", rates, "{} is inf; allowed: finite numbers")
    yield from family("problem({}='x')", rates, "{} is not numeric: 'x'")
    yield from family("problem({}=None)", rates, "{} is not numeric: None")
    yield from family("problem({}=[0.1, 0.2])", rates, "{} has 2 runs where the problem has 3; allowed: 3 or 1")
    yield from family("problem({}=[[0.1]])", rates, "{} has shape (1, 1); allowed: a number or one value per run, [B]")
    steps = "sam_from sam_until"
    yield from family("problem({}=-1)", steps, "{} contains -1; allowed: whole numbers >= 0")
    yield from family("problem({}=1.5)", steps, "{}=1.5; allowed: whole numbers")
    yield from family("problem({}='x')", steps, "{}='x'; allowed: whole numbers")
    yield from family("problem({}=[1, 2])", steps, "{} has 2 runs where the problem has 3; allowed: 3 or 1")
    choices = "network activation perturb norm norm_over effect loss"
    yield from family("problem({}='bogus')", choices, "{}='bogus' is not known; allowed: ")
    yield from family("problem({}=None)", choices, "{}=None is not known; allowed: ")
    yield from family("problem({}=['all'])", choices, "{}=['all'] is not known; allowed: ")
    for value in ("-1", "'x'", "np.nan", "None", "[1, 2]"):
        shown = value.removeprefix("np.")
        yield f"problem(adaptive_eta={value})", f"adaptive_eta={shown}; allowed: a number >= 0"
        yield f"problem(collapse_threshold={value})", f"collapse_threshold={shown}; allowed: a number >= 0"
    for value in ("'x'", "None", "5"):
        yield f"problem(record_layers={value})", f"record_layers={value}; allowed: True, False"
    for value in ("-1", "1.5", "'x'", "True", "[1]"):
        yield f"problem(steps={value})", f"steps={value}; allowed: a whole number >= 0"
        yield f"problem(batch_size={value})", f"batch_size={value}; allowed: a whole number >= 1"
    yield from family("problem({}=2**70)", "steps batch_size", "{}=1180591620717411303424; allowed: a whole number in ")

    numbers = "rho weight_decay warmup_epochs momentum"
    positive = "lr stop_level"
    for value in ("-1.0", "np.nan", "np.inf", "'x'", "True", "[0.1]"):
        shown = value.removeprefix("np.")
        yield from family(f"run({{}}={value})", numbers, f"{{}}={shown}; allowed: a finite number >= 0")
        yield from family(f"run({{}}={value})", positive, f"{{}}={shown}; allowed: a finite number > 0")
    counts = "size batch_size epochs evaluations_per_epoch evaluation_examples"
    for value in ("0", "-1", "1.5", "'3'", "True"):
        yield from family(f"run({{}}={value})", counts, f"{{}}={value}; allowed: a whole number >= 1")
    names_of_things = "method effect base schedule augmentation precision on_decode_error"
    for value in ("'bogus'", "None", "[1]"):
        yield from family(f"run({{}}={value})", names_of_things, f"{{}}={value} is not known; allowed: ")


def cases() -> list[Case]:
    """All of them."""
    tables = (TRAINING_PROBLEMS, TRAIN, TOOLS, TOYMODELS, REALDATA, SAM_OPTIONS)
    found = [row for table in tables for row in rows(table)] + list(families())
    return [Case(text, _action(text), expected) for text, expected in found]
