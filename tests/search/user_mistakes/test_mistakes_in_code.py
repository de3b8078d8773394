"""Mistakes in a user's model, data, metric and loss: one sentence, before anything takes long."""

import re

import pytest

OWN = "task.metric=mine:score", "task.loss=cross_entropy", "goals[0].metric=score"
OWN = (*OWN, "goals[0].direction=maximize")
LOSS = ("task.loss=mine:loss",)


def model(body):
    return f"def model():\n    {body}\n"


def net(forward):
    return f"class Mine(Net):\n    def forward(self, x):\n        {forward}\n" + model(
        "return Mine()"
    )


def rows(change):
    return f"def changed(x, y):\n    {change}\n"


def splits(extra):
    return f"plain = data\ndef data():\n    return plain() | {extra}\n"


def score(body):
    return f"def score(outputs, targets):\n    {body}\n"


def loss(body):
    return f"def loss(outputs, targets):\n    {body}\n"


MODELS = {
    "factory returns nothing": (model("Net()"), "must return an nn.Module, got None"),
    "factory returns the class": (model("return Net"), "got the class Net"),
    "factory returns a dict": (model("return Net().state_dict()"), "got OrderedDict"),
    "factory returns a function": (model("return Net().forward"), "got method"),
    "factory raises": (model("raise RuntimeError('no [file]')"), r"RuntimeError: no \[file\].*mine\.py"),
    "factory exits": (model("raise SystemExit('bye')"), "task.model.*SystemExit: bye"),
    "factory opens no file": (model("open('/none/x')"), "FileNotFoundError.*/none/x"),
    "factory takes arguments": ("def model(width):\n    return Net()\n", "task.kwargs.*'width'"),
    "meta": (model("with torch.device('meta'):\n        return Net()"), "inner.weight on the meta"),
    "lazy": (model("return nn.LazyLinear(3)"), "the lazy weight"),
    "TorchScript": (model("return torch.jit.script(Net())"), "TorchScript"),
    "NaN weight": (
        model("m = Net()\n    m.head.weight.data[0, 0] = torch.nan\n    return m"),
        "1 of 24 in head.weight",
    ),
    "infinite weight": (
        model("m = Net()\n    m.head.bias.data[:] = torch.inf\n    return m"),
        "3 of 3 in head.bias",
    ),
    "no layer": ("class N(nn.Module):\n    def forward(self, x):\n        return x[:, :3]\n"
                 + model("return N()"), "must have a layer to compress"),
    "forward returns nothing": (net("super().forward(x)"), "at least one tensor.*got NoneType"),
    "forward raises": (net("raise KeyError('mask')"), "2 rows of float32.*KeyError: 'mask'"),
    "forward exits": (net("raise SystemExit(0)"), "Mine.forward.*SystemExit"),
    "forward returns objects alone": (net("return (object(),)"), "tensor"),
    "forward returns the batch size": (net("return super().forward(x), len(x)"), "got 2 .int. for 2"),
    "forward returns a loss": (net("return super().forward(x), x.mean()"), r"shape \(\) for 2 rows"),
    "rows depend on each other": (net("return super().forward(x - x.mean(0))"), "whatever else is in"),
    "length of the batch as a number": (
        net("return super().forward(x) + torch.zeros(len(x), 1)"),
        r"any number of rows.*x\.shape\[0\]",
    ),
    "one batch size only": (net("return super().forward(x.reshape(2, 4))"), "1 row of float32"),
    "wrong width": (rows("return x[:, :3], y"), r"2 rows of float32 \(3,\).*cannot be multiplied"),
    "uint8 without prepare": (rows("return x.byte(), y"), r"2 rows of uint8 \(4,\).*`prepare`"),
    "int64 inputs": (rows("return x.long(), y"), r"2 rows of int64 \(4,\)"),
    "two inputs of one": (rows("return (x, x), y"), r"float32 \(4,\), float32 \(4,\)"),
    "inputs by a wrong name": (rows("return {'image': x}, y"), "unexpected keyword argument 'image'"),
}  # fmt: skip
DATA = {
    "data factory exits": ("def data():\n    raise SystemExit(0)\n", "task.data.*SystemExit: 0"),
    "data factory returns a list": ("def data():\n    return [1]\n", "must return a mapping.*got list"),
    "a split is missing": ("def data():\n    return {'train': rows(4, 0)}\n", r"got \['train'\]"),
    "an unknown split": (splits("{'valid': 3}"), "'valid'"),
    "targets too few": (rows("return x, y[:-1]"), "one and the same number of rows"),
    "no rows": (rows("return x[:0], y[:0]"), r"above zero, got \[0\]"),
    "text as targets": (rows("return x, ['a'] * len(x)"), "got str"),
    "text as arrays": (rows("import numpy; return numpy.array(['a'] * len(x)), y"), "array of <U1"),
    "objects as arrays": (
        rows("import numpy; return numpy.array([None] * len(x)), y"), "array of object"),
    "rows of two shapes": (
        splits("{'train': [(torch.zeros(4), 0), (torch.zeros(3), 0)]}"), "pairs of one shape"),
    "a dataset that raises": (
        "class Rows:\n    def __len__(self):\n        return 3\n"
        "    def __getitem__(self, i):\n        raise OSError('gone')\n" + splits("{'search': Rows()}"),
        "reading the rows of split 'search' raised OSError: gone"),
    "a split function that raises": (splits("{'search': lambda: 1 / 0}"), "split 'search' raised Zero"),
    "a wrong test split": (splits("{'test': (torch.zeros(3, 4), torch.zeros(2))}"), "split 'test'"),
    "prepare raises": (splits("{'prepare': lambda x: x / None}"), "prepare, given .*TypeError"),
    "prepare returns nothing": (splits("{'prepare': lambda x: None}"), "got NoneType"),
    "prepare drops rows": (splits("{'prepare': lambda x: x[:0]}"), r"as many rows .* got \(0, 4\)"),
    "prepare is no function": (splits("{'prepare': 3}"), "must be a function .* got int"),
    "NaN inputs": (rows("x[3, 1] = torch.nan; return x, y"), "got NaN in row 3"),
    "NaN after prepare": (splits("{'prepare': lambda x: x * torch.nan}"), "got NaN in row 0"),
    "float classes": (rows("return x, y.float()"), "whole numbers, got float32"),
    "one-hot classes": (rows("return x, nn.functional.one_hot(y, 3)"), "argmax"),
    "float one-hot classes": (rows("return x, nn.functional.one_hot(y, 3).float()"), "argmax"),
    "classes from 1": (rows("return x, y + 1"), r"in 0\.\.2.* got 3; number the classes from 0"),
    "negative classes": (rows("return x, y - 1"), r"in 0\.\.2.* got -1"),
    "two targets": (rows("return x, (y, y)"), "must have one target, got 2"),
    "one logit": (model("return Net(out=1)") + rows("return x, (y > 0).long()"), "for one logit"),
}  # fmt: skip
METRICS = {
    "metric raises": (score("return 1 / 0"), "task.metric: score, given 48 rows, raised ZeroDivision"),
    "metric exits": (score("raise SystemExit(1)"), "SystemExit: 1"),
    "metric is NaN": (score("return float('nan')"), "got nan for 48 rows"),
    "metric is infinite": (score("return float('-inf')"), "got -inf for 48 rows"),
    "metric is enormous": (score("return 1e308"), r"got 1e\+308"),
    "metric is text": (score("return 'good'"), "must return one number, got str"),
    "metric is a vector": (score("return outputs.mean(1)"), r"got Tensor of shape \(48,\)"),
    "metric is None": (score("pass"), "got NoneType"),
    "metric takes one argument": (
        "def score(outputs):\n    return 1.0\n", "given 48 rows, raised TypeError"),
}  # fmt: skip
LOSSES = {
    "loss raises": (loss("return {}['x']"), "task.loss: mine:loss, given 8 rows, raised KeyError: 'x'"),
    "loss is a float": (loss("return 1.0"), "tensor of one value.* got float"),
    "loss has no gradient": (loss("return torch.tensor(1.0)"), "must have a gradient"),
    "loss is a vector": (loss("return (outputs ** 2).mean(1)"), r"Tensor of shape \(8,\)"),
    "loss is NaN": (loss("return (outputs * torch.nan).mean()"), "got .* and nan on 48 rows"),
    "loss is None": (loss("pass"), "got NoneType"),
}  # fmt: skip
SAMPLERS = {
    "sampler factory raises": ("def make(*_):\n    raise KeyError('x')\n", "raised KeyError: 'x'"),
    "sampler factory takes nothing": ("def make():\n    pass\n", "raised TypeError: make"),
    "no sampler": ("def make(*_):\n    return 3\n", "optuna.samplers.BaseSampler, got int"),
    "the sampler's class": (
        "import optuna\ndef make(*_):\n    return optuna.samplers.TPESampler\n",
        "got TPESampler; return an instance",
    ),
    "no such sampler": ("", "nothing of that name"),
    "it cannot draw": (
        "import optuna\nclass S(optuna.samplers.RandomSampler):\n"
        "    def sample_independent(self, *_):\n        return 1 / 0\n"
        "def make(*_):\n    return S()\n",
        "raised ZeroDivisionError.*mine.py",
    ),
}
MODULES = {
    "a syntax error": ("def model(:\n", r"SyntaxError.*\n.*mine\.py:\d+: def model\(:"),
    "the module raises": ("raise ValueError('x')\n", r"importing mine raised ValueError: x"),
    "the module exits": ("import sys; sys.exit(3)\n", "importing mine raised SystemExit: 3"),
    "a package is missing": ("import none_such\n", "no module named 'none_such'; install it"),
    "no such function": ("del model\n", "nothing of that name"),
    "not a function": ("model = 3\n", "a int"),
}


@pytest.mark.parametrize("case", [*MODELS, *DATA, *MODULES])
def test_a_mistake_in_model_or_data_is_a_sentence(project, refused, case):
    code, says = (MODELS | DATA | MODULES)[case]
    assert_says(refused(project(code)), says)


@pytest.mark.parametrize("case", METRICS)
def test_a_mistake_in_a_metric_is_a_sentence(project, refused, case):
    code, says = METRICS[case]
    assert_says(refused(project(code), *OWN), says)


@pytest.mark.parametrize("case", LOSSES)
def test_a_mistake_in_a_loss_is_a_sentence(project, refused, case):
    code, says = LOSSES[case]
    assert_says(refused(project(code), *LOSS), says)


@pytest.mark.parametrize("case", SAMPLERS)
def test_a_mistake_in_a_sampler_is_a_sentence(project, refused, case):
    code, says = SAMPLERS[case]
    assert_says(
        refused(project(code), "search.sampler=mine:make"),
        rf"search\.sampler: .*mine:make.*{says}",
    )


def test_only_the_users_own_lines_of_a_traceback_are_shown(project, refused):
    said = refused(project("def inner():\n    return torch.zeros(2) @ torch.zeros(3)\n"
                           + score("return inner()")), *OWN)  # fmt: skip
    places = [line.strip() for line in said.splitlines()[1:]]
    assert len(places) == 2
    assert all("mine.py" in line for line in places)
    assert "in inner: return torch.zeros(2) @ torch.zeros(3)" in places[1]


def assert_says(said, pattern):
    assert re.search(pattern, said, re.DOTALL), said
