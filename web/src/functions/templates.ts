// What a new package begins with.

export function firstFile(name: string): string {
  return `from typing import Annotated

import numpy
from myelin.function import Help, Line, Range, Result, Unit, function


@function(title="${name.replace(/_/g, ' ')}", deterministic=True, plots=[Line("t", "v")],
          results={"t": "ms", "v": Result("mV", dims=("t",), help="membrane potential")})
def response(amp: Annotated[float, Unit("nA"), Range(-1, 1), Help("injected current")] = 0.1,
             tau: Annotated[float, Unit("ms"), Range(1, 100)] = 10.0):
    """A leaky cell's response to a step of current."""
    t = numpy.arange(0, 100, 0.1)
    return {"t": t, "v": -65 + 100 * amp * (1 - numpy.exp(-t / tau))}
`;
}

export function newFile(path: string): string {
  if (!path.endsWith('.mod')) return '';
  const name = path.replace(/^.*\//, '').replace(/\.mod$/, '');
  return `NEURON {
    SUFFIX ${name}
    NONSPECIFIC_CURRENT i
    RANGE g, e
}
PARAMETER {
    g = 0.001 (S/cm2)
    e = -65 (mV)
}
ASSIGNED {
    v (mV)
    i (mA/cm2)
}
BREAKPOINT {
    i = g * (v - e)
}
`;
}

/** What is wrong with the path of a file, if anything. */
export function wrongPath(path: string): string {
  if (!/^[\w-]+(\/[\w-]+)*(\.\w+)+$/.test(path)) return 'Write a path as na.mod or parts/soma.py.';
  return '';
}
