"""nest-client, from its package, with its header option: the documented programs, unchanged but for the token."""

import pytest

nest_client = pytest.importorskip("nest_client")


@pytest.fixture
def nsc(server, nest):
    return nest_client.NESTClient(server.url + nest.prefix, headers={"NESTServerAuth": server.token})


def test_documented_basic_usage(nsc):
    nsc.ResetKernel()
    pg = nsc.Create("poisson_generator", 1, {"rate": 6500.0})
    neurons = nsc.Create("iaf_psc_alpha", 1000)
    sr = nsc.Create("spike_recorder")
    nsc.Connect(pg, neurons, syn_spec={"weight": 10.0})
    nsc.Connect(neurons[::10], sr)
    nsc.Simulate(1000.0)
    assert nsc.GetStatus(sr, "n_events")[0] > 500


def test_documented_scripts(nsc, tmp_path, capsys):
    assert nsc.exec_script("print('Hello world!')")["stdout"].rstrip("\n") == "Hello world!"
    assert "iaf_psc_alpha" in nsc.exec_script("models=nest.node_models", return_vars="models")["data"]
    script = tmp_path / "simulation_script.py"
    script.write_text("import nest\nnest.ResetKernel()\nn = nest.Create('iaf_psc_alpha', 3)\nn_events = len(n)\n")
    assert nsc.from_file(script, return_vars="n_events")["data"] == 3
    assert nsc.exec_script("import numpy\na = numpy.arange(10)", "a")["data"][::2] == [0, 2, 4, 6, 8]


def test_errors_reach_the_user(nsc):
    from werkzeug.exceptions import BadRequest

    with pytest.raises(BadRequest, match="UnknownModelName"):
        nsc.Create("no_such_model")
    with pytest.raises(BadRequest, match="ZeroDivisionError at line 2"):
        nsc.exec_script("a = 1\nb = a / 0")
    with pytest.raises(BadRequest, match="KernelLost: "):
        nsc.exec_script("import os\nos._exit(3)")
    with pytest.raises(BadRequest, match="KernelLost: "):
        nsc.Create("iaf_psc_alpha")
    nsc.ResetKernel()
    assert nsc.Create("iaf_psc_alpha") == [1]
