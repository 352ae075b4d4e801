#!/usr/bin/env python3
"""What if the input were stronger? A balanced network of NEST is settled once; each answer then continues from there in a branch.

    PYTHONPATH=python python3 examples/what_if.py --branches 100

Without branches each answer needs a full run: build, settle, ask. Both are timed here, and their spikes compared. See docs/what-if.md.
"""

import argparse
import sys
import time

import numpy

from myelin import Client
from myelin.client import MyelinError

SETTLE = """
import nest
nest.ResetKernel()
nest.set(rng_seed=12345, resolution=0.1)
# Brunel's network, asynchronous and irregular: four fifths excitatory, each neuron has inputs from a tenth of both kinds.
n, g, weight, delay = {neurons}, 5.0, 0.2, 1.5
drive = 2.0 * 20.0 / (weight * 20.0) * 1000.0        # spikes/s: twice what brings a neuron to its threshold
cells = nest.Create("iaf_psc_delta", n, {{"tau_m": 20.0, "t_ref": 2.0, "E_L": 0.0, "V_reset": 0.0, "V_m": 0.0, "V_th": 20.0, "C_m": 1.0}})
excitatory, inhibitory = cells[: n * 4 // 5], cells[n * 4 // 5 :]
noise = nest.Create("poisson_generator", params={{"rate": drive}})
spikes = nest.Create("spike_recorder", params={{"start": {settle_ms}}})
nest.Connect(excitatory, cells, {{"rule": "fixed_indegree", "indegree": n * 8 // 100}}, {{"weight": weight, "delay": delay}})
nest.Connect(inhibitory, cells, {{"rule": "fixed_indegree", "indegree": n * 2 // 100}}, {{"weight": -g * weight, "delay": delay}})
nest.Connect(noise, cells, syn_spec={{"weight": weight, "delay": delay}})
nest.Connect(cells, spikes)
nest.Simulate({settle_ms})
"""

ASK = """
noise.rate = drive * {factor}
nest.Simulate({ask_ms})
times, senders = spikes.events["times"], spikes.events["senders"]
"""


def ask(session, factor, options):
    """Changes the input of the settled network in ``session``, and goes on: (times, senders) of the spikes."""
    result = session.exec(ASK.format(factor=factor, ask_ms=options.ask_ms), returns=["times", "senders"])
    return numpy.asarray(result["times"]), numpy.asarray(result["senders"])


def settle(session, options):
    session.exec(SETTLE.format(neurons=options.neurons, settle_ms=options.settle_ms))


def by_branches(client, factors, options):
    """One settled network; each factor is asked in a branch of it, a few branches at a time."""
    answers = []
    with client.session("nest") as settled:
        settle(settled, options)
        while len(answers) < len(factors):
            branches = settled.branch(min(options.at_a_time, len(factors) - len(answers)))
            for branch in branches:
                with branch:  # a branch ends with its answer
                    answers.append(ask(branch, factors[len(answers)], options))
    return answers


def by_full_runs(client, factors, options):
    """The same without branches: every factor builds and settles the network anew."""
    answers = []
    with client.session("nest") as session:
        for factor in factors:
            settle(session, options)
            answers.append(ask(session, factor, options))
    return answers


def rate_hz(answer, options):
    return len(answer[0]) / options.neurons / options.ask_ms * 1000.0


def plot(factors, answers, options):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as pyplot

    figure, (curve, raster) = pyplot.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    curve.plot(factors, [rate_hz(a, options) for a in answers], ".-")
    curve.set(xlabel="input, relative", ylabel="rate (spikes/s)")
    raster.plot(*answers[-1], ",k")
    raster.set(xlabel="time (ms)", ylabel="neuron", title="input × %.2f" % factors[-1])
    figure.savefig(options.plot, dpi=150)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", help="the server (MYELIN_URL, else http://127.0.0.1:52425); the token is MYELIN_TOKEN's")
    parser.add_argument("--branches", type=int, default=100, help="how many questions (100)")
    parser.add_argument("--full", type=int, default=10, help="how many of them to ask by full runs too (10)")
    parser.add_argument("--neurons", type=int, default=1000)
    parser.add_argument("--settle-ms", type=float, default=1000.0)
    parser.add_argument("--ask-ms", type=float, default=200.0)
    parser.add_argument("--at-a-time", type=int, default=10, help="branches that exist at once (10)")
    parser.add_argument("--plot", metavar="FILE", help="draw the answers (needs matplotlib)")
    options = parser.parse_args(arguments)
    factors = [round(0.5 + 1.5 * i / max(options.branches - 1, 1), 6) for i in range(options.branches)]
    full = factors[:: max(1, len(factors) // max(options.full, 1))][: options.full]
    client = Client(options.url)
    try:
        begin = time.monotonic()
        answers = by_branches(client, factors, options)
        branched_s = time.monotonic() - begin
        for factor, answer in zip(factors, answers):
            if factor in (factors[0], factors[len(factors) // 2], factors[-1]):
                print("input × %.2f: %5.1f spikes/s" % (factor, rate_hz(answer, options)))
        print("%d branches: %.1f s, the settled second included" % (len(factors), branched_s))
        if full:
            begin = time.monotonic()
            wanted = by_full_runs(client, full, options)
            full_s = (time.monotonic() - begin) / len(full) * len(factors)
            same = all(numpy.array_equal(a, b) for f, answer in zip(full, wanted) for a, b in zip(answer, answers[factors.index(f)]))
            print("%d full runs: %.1f s%s, %.1f times as long" % (len(factors), full_s, " (from %d)" % len(full) if len(full) < len(factors) else "",
                                                                 full_s / branched_s))
            print("their spikes are %s" % ("identical" if same else "NOT identical"))
        if options.plot:
            plot(factors, answers, options)
            print("drawn in %s" % options.plot)
    except MyelinError as error:
        sys.exit("what_if: %s" % error)
    return 0 if not full or same else 1


if __name__ == "__main__":
    sys.exit(main())
