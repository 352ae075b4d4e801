"""The Python package's own client against the running server."""

import threading

import numpy
import pytest

from myelin.client import BadRequest, NESTServerClient, NESTServerError


@pytest.fixture
def nsc(server, nest):
    with NESTServerClient(url=server.url, token=server.token, session=nest.prefix[3:]) as client:
        yield client


def test_documented_program(nsc):
    nsc.ResetKernel()
    pg = nsc.Create("poisson_generator", 1, {"rate": 6500.0})
    neurons = nsc.Create("iaf_psc_alpha", 1000)
    sr = nsc.Create("spike_recorder")
    nsc.Connect(pg, neurons, syn_spec={"weight": 10.0})
    nsc.Connect(neurons[::10], sr)
    nsc.Simulate(1000.0)
    n_events = nsc.GetStatus(sr, "n_events")[0]
    events = nsc.GetStatus(sr, "events")[0]
    assert isinstance(events["times"], numpy.ndarray) and events["times"].dtype == numpy.float64
    assert len(events["times"]) == len(events["senders"]) == n_events > 500
    assert set(numpy.unique(events["senders"])) <= set(neurons[::10])


def test_host_and_port(server):
    host, port = server.address
    with NESTServerClient(host, port, token=server.token) as client:
        assert client.version()["nest"].startswith("3.")


def test_scripts_and_files(nsc, tmp_path):
    answer = nsc.exec_script("print('Hello')\na = 1\nb = [1.5, None, 'é']", ["a", "b"])
    assert answer == {"data": {"a": 1, "b": [1.5, None, "é"]}, "stdout": "Hello\n"}
    path = tmp_path / "s.py"
    path.write_text("import numpy as np\nm = np.arange(6).reshape(2, 3) / 2\nn = float('nan')")
    data = nsc.from_file(path, ["m", "n"])["data"]
    assert numpy.array_equal(numpy.asarray(data["m"]), numpy.arange(6).reshape(2, 3) / 2)
    assert data["n"] != data["n"]


def test_errors(server, nsc):
    with pytest.raises(BadRequest, match="foo is not a known model name"):
        nsc.Create("foo")
    with pytest.raises(BadRequest) as error:
        nsc.exec_script("a = 1\n\nb = a / 0")
    assert error.value.line_number == 3
    with pytest.raises(NESTServerError) as error:
        NESTServerClient(url=server.url, token="wrong").ResetKernel()
    assert error.value.status == 403


def test_threads_and_arrays_as_arguments(nsc):
    nsc.ResetKernel()
    ids = nsc.Create("iaf_psc_alpha", 5)
    nsc.SetStatus(numpy.asarray(ids), [{"V_m": float(v)} for v in numpy.linspace(-70, -60, 5)])
    assert numpy.allclose(nsc.GetStatus(ids, "V_m"), numpy.linspace(-70, -60, 5))
    seen = []
    threads = [threading.Thread(target=lambda: seen.extend(len(nsc.Create("parrot_neuron", 2)) for _ in range(20)))
               for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert seen == [2] * 80 and nsc.network_size() == 5 + 160


def test_values_are_the_same_in_json_and_cbor(nest):
    source = "import numpy as np\na = [1, 2.5, None, True, 'x', {'k': [1, 2]}]\nb = np.array([1.0, 2.0])\nc = 10**25\nd = np.int64(7)"
    import cbor2

    plain = nest.value(source, list("abcd"))
    answer = nest.exec(source, list("abcd"), headers={"Accept": "application/cbor"})
    assert answer.headers["content-type"] == "application/cbor"

    def arrays(decoder, tag, *_):
        assert tag.tag == 86, tag
        return numpy.frombuffer(tag.value, "<f8").tolist()

    data = cbor2.loads(answer.body, tag_hook=arrays)["data"]
    assert data == plain
