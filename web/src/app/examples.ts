// Three scripts to begin with, and for each how a session and its branch may go on: as it was, and with one thing changed.

export interface Example {
  id: string; title: string; engine: string; name: string; about: string; source: string; returns: string;
  next: { same: string; changed: string; returns: string };
}

export const examples: Example[] = [
  {
    id: 'brunel', title: 'Balanced random network', engine: 'nest', name: 'balanced network',
    about: '1,250 integrate-and-fire neurons fire irregularly: a raster and membrane voltages while NEST simulates one second.',
    source: `import nest

nest.ResetKernel()
nest.rng_seed = 1

n_ex, n_in = 1000, 250       # neurons
c_ex, c_in = 100, 25         # inputs of each
J, g = 0.2, 6.0              # mV, inhibition / excitation
delay, theta, tau = 1.5, 20.0, 20.0
drive = 1.1                  # 1: just at threshold

params = {"C_m": 1.0, "tau_m": tau, "t_ref": 2.0, "E_L": 0.0,
          "V_reset": 0.0, "V_m": 0.0, "V_th": theta}
excitatory = nest.Create("iaf_psc_delta", n_ex, params)
inhibitory = nest.Create("iaf_psc_delta", n_in, params)
everyone = excitatory + inhibitory

rate = 1000.0 * drive * theta / (J * tau)
noise = nest.Create("poisson_generator", params={"rate": rate})
spikes = nest.Create("spike_recorder", params={"label": "all"})
volts = nest.Create("voltmeter", params={"interval": 0.5})

nest.Connect(noise, everyone, syn_spec={"weight": J, "delay": delay})
nest.Connect(excitatory, everyone,
             {"rule": "fixed_indegree", "indegree": c_ex},
             {"weight": J, "delay": delay})
nest.Connect(inhibitory, everyone,
             {"rule": "fixed_indegree", "indegree": c_in},
             {"weight": -g * J, "delay": delay})
nest.Connect(everyone, spikes)
nest.Connect(volts, excitatory[:3])

nest.Simulate(1000.0)

n_spikes = spikes.n_events
mean_rate = n_spikes / (n_ex + n_in)
print(f"{n_spikes} spikes, {mean_rate:.1f} per second and neuron")
`,
    returns: 'n_spikes, mean_rate',
    next: {
      same: `nest.Simulate(500.0)\nn_spikes = spikes.n_events\n`,
      changed: `noise.rate = noise.rate * 1.2   # more drive\nnest.Simulate(500.0)\nn_spikes = spikes.n_events\n`,
      returns: 'n_spikes',
    },
  },
  {
    id: 'hh', title: 'Hodgkin–Huxley cell', engine: 'neuron', name: 'HH cell',
    about: 'A NEURON soma with the squid’s channels fires while a current is injected: its voltage over 100 ms.',
    source: `from neuron import h
h.load_file("stdrun.hoc")

soma = h.Section(name="soma")
soma.L = soma.diam = 20         # µm
soma.insert("hh")

clamp = h.IClamp(soma(0.5))
clamp.delay = 10                # ms
clamp.dur = 70
clamp.amp = 0.15                # nA

times = h.Vector().record(h._ref_t)
volts = h.Vector().record(soma(0.5)._ref_v)

h.finitialize(-65)
h.continuerun(100)

t, v = times.as_numpy(), volts.as_numpy()
print(f"{len(t)} steps, highest {v.max():.1f} mV")
`,
    returns: 't, v',
    next: {
      same: `clamp.delay, clamp.dur = 110, 70\nh.continuerun(200)\nt, v = times.as_numpy(), volts.as_numpy()\n`,
      changed: `clamp.delay, clamp.dur = 110, 70\nclamp.amp = 0.3                 # twice the current\nh.continuerun(200)\nt, v = times.as_numpy(), volts.as_numpy()\n`,
      returns: 't, v',
    },
  },
  {
    id: 'fhn', title: 'FitzHugh–Nagumo in Python', engine: 'python', name: 'FitzHugh–Nagumo',
    about: 'Two equations of an excitable membrane, solved with NumPy: any Python runs here, prints and returns arrays.',
    source: `import numpy as np

def simulate(v0, w0, current, t_end=200.0, dt=0.01):
    """FitzHugh-Nagumo by Euler steps, every tenth kept."""
    n = round(t_end / dt)
    t, v, w = (np.zeros(n // 10) for _ in range(3))
    a, b, eps = 0.7, 0.8, 0.08
    for i in range(n):
        if i % 10 == 0:
            t[i // 10], v[i // 10], w[i // 10] = i * dt, v0, w0
        if i % (n // 5) == 0:
            print(f"{100 * i // n} %", flush=True)
        v0, w0 = (v0 + dt * (v0 - v0**3 / 3 - w0 + current),
                  w0 + dt * eps * (v0 + a - b * w0))
    return t, v, w

t, v, w = simulate(-1.0, -0.6, current=0.5)
print("100 %")
`,
    returns: 't, v, w',
    next: {
      same: `t, v, w = simulate(v[-1], w[-1], current=0.5)\n`,
      changed: `t, v, w = simulate(v[-1], w[-1], current=0.34)   # less current\n`,
      returns: 't, v, w',
    },
  },
];

/** What a session that ran `source` and a branch of it may do next. */
export function nextScripts(engine: string, source: string, returns: string): { same: string; changed: string; returns: string } {
  const example = examples.find((one) => one.engine === engine && one.source === source);
  if (example) return example.next;
  const on = examples.find((one) => one.engine === engine && (one.next.same === source || one.next.changed === source));
  if (on) return on.next;
  if (engine === 'nest' && /ResetKernel|Create\s*\(/.test(source))
    return { same: 'nest.Simulate(500.0)\n', changed: '# change something here, then:\nnest.Simulate(500.0)\n', returns: '' };
  return { same: source, changed: source, returns };
}

export const blank: Record<string, string> = {
  nest: 'import nest\n\nnest.ResetKernel()\n\n',
  neuron: 'from neuron import h\nh.load_file("stdrun.hoc")\n\n',
};
