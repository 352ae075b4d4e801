"""NEST: scripts, and calls by name as NEST Server answers them, with more arguments that can be said in JSON.

Nodes. Wherever NEST takes a NodeCollection, an array of ids does; also one id (NEST Server refuses that), and as text of a
query or form `3` or `3,4,5`. Ids that are a regular part of a layer keep their positions. The names are those of NODE_NAMES; positional arguments go by the function's signature.

Connections. Wherever NEST takes a SynapseCollection: `{"connections": C}`, C an object of columns or scalars as GetConnections
answers it, or an array of objects, one each; also bare, if it has `source` and `target`. `source` and `target` are needed, further
keys narrow: `synapse_model`, `synapse_id`, `port`, `target_thread`, `receptor`. `{}` is the empty collection.

Parameters. Where NEST takes a Parameter (values of params, syn_spec and conn_spec, positions): an object with one key, the type
of nest.CreateParameter, whose value is an object of its specs:

    {"uniform": {"min": 0.5, "max": 1.5}}          {"normal": {"mean": 0, "std": 1}}       {"exponential": {"beta": 2}}
    {"gaussian": {"x": {"distance": {}}, "std": 0.5}}                                     {"position": {"dimension": 0}}

or the name of a function or constant of nest.random, nest.math, nest.logic, nest.spatial or nest.spatial_distributions, with an
object of keywords, an array of arguments, or null for a constant:

    {"nest.random.lognormal": {"mean": 1, "std": 0.2}}      {"nest.math.exp": [{"nest.spatial.distance": null}]}

Masks (`mask`, `mask_obj`): {"circular": {"radius": 0.3}}, as nest.CreateMask, with "anchor" beside it if wanted.
Parameters and masks that were made from specs are answered in the same form.

Positions of Create: {"grid": {"shape": [4, 3], "extent": [2, 2]}}, {"free": {"pos": …, "extent": …}}, {"free": [[x, y], …]}, or [[x, y], …].
Collocated synapses: `syn_spec` as an array of objects.
"""

import ctypes
import inspect
import math
import random
import string
import sys
import time

from .. import rope
from . import Engine, nest_recorders

NODE_NAMES = frozenset(
    "nodes source target pre post third sources targets src_layer tgt_layer source_layer target_layer layer nodes_or_conns "
    "nc src_nrn collection nodecollection".split()
)
CONNECTION_NAMES = frozenset(("nodes_or_conns", "conns", "connections", "synapsecollection"))
PARAMETER_NAMES = frozenset(
    "params syn_spec syn_specs conn_spec third_factor_conn_spec positions specs mask mask_obj probability_parameter parameter "
    "x anchor".split()
)
READ_ONLY = frozenset(
    "ConnectionRules Displacement Distance FindCenterElement FindNearestElement GetConnections GetDefaults GetKernelStatus "
    "GetLocalNodeCollection GetLocalVPs GetNodes GetPosition GetSourceNodes GetSourcePositions GetStatus GetTargetNodes "
    "GetTargetPositions Models NumProcesses PrintNodes Rank SelectNodesByMask get get_verbosity help message serialize_data "
    "to_json NodeCollection CreateMask CreateParameter SyncProcesses set_verbosity DumpLayerNodes DumpLayerConnections".split()
)

PARAMETERS = {
    "constant": {"value"},
    "uniform": {"min", "max"},
    "uniform_int": {"max"},
    "normal": {"mean", "std"},
    "lognormal": {"mean", "std"},
    "exponential": {"beta"},
    "exp_distribution": {"x", "beta"},
    "gaussian": {"x", "mean", "std"},
    "gaussian2d": {"x", "y", "mean_x", "mean_y", "std_x", "std_y", "rho"},
    "gamma": {"x", "kappa", "theta"},
    "gabor": {"x", "y", "theta", "gamma", "std", "lam", "psi"},
    "distance": {"dimension"},
    "position": {"dimension", "synaptic_endpoint"},
}
MASKS = {
    "rectangular": {"lower_left", "upper_right", "azimuth_angle"},
    "circular": {"radius"},
    "doughnut": {"inner_radius", "outer_radius"},
    "elliptical": {"major_axis", "minor_axis", "azimuth_angle", "anchor"},
    "box": {"lower_left", "upper_right", "azimuth_angle", "polar_angle"},
    "spherical": {"radius"},
    "ellipsoidal": {"major_axis", "minor_axis", "polar_axis", "azimuth_angle", "polar_angle", "anchor"},
    "ellipsoid": {"major_axis", "minor_axis", "polar_axis", "azimuth_angle", "polar_angle", "anchor"},
    "grid": {"rows", "columns", "shape"},
}
FUNCTION_MODULES = ("random", "math", "logic", "spatial", "spatial_distributions")

SLICE_S = 0.05  # wall time of a slice
GROWTH = 8
RESERVED_PROCESSES = 1  # of the session's limit: the worker's own thread


class Kernel:
    """NEST's low-level calls, replaced in its module: simulations run in slices, so that they can be interrupted and report.

    Everything of PyNEST (Simulate, Run, RunManager, nest.resolution = …) comes through here. Results are the same to the bit,
    in the same order: slices end where NEST's own update intervals of min_delay end. Shorter ones would change the order of
    recorded spikes, and the results of waveform relaxation and of structural plasticity.
    """

    GROWING = (
        "llapi_create",
        "llapi_connect",
        "llapi_connect_arrays",
        "llapi_connect_layers",
        "llapi_connect_sonata",
        "llapi_connect_tripartite",
    )

    def __init__(self, nest, api, numpy):
        self.nest = nest
        self.api = api
        self.session = None
        self.resets = 0
        self.told = 0  # the reset that the server knows already
        self.max_threads = 0  # 0: no limit
        self.layers = []  # (first id, last id, NodeCollection) of nodes with positions
        self._prepared = False
        self._own = False  # inside of a Prepare of _slices
        self._plastic = False  # structural plasticity: not the same when run in parts, also by NEST alone
        self._speed = 0.0  # wall seconds per simulated ms, measured; 0: unknown
        self._facts = None
        self._tics = None  # of biological time; None: unknown
        self._spikes = 0  # of the slices before the last one
        self._simulate = api.llapi_simulate
        self._run = api.llapi_run
        self._prepare = api.llapi_prepare
        self._cleanup = api.llapi_cleanup
        self._reset = api.llapi_reset_kernel
        self._set_status = api.llapi_set_kernel_status
        self._get_status = api.llapi_get_kernel_status
        self._create_spatial = api.llapi_create_spatial
        self._enable_plasticity = api.llapi_enable_structural_plasticity
        self._disable_plasticity = api.llapi_disable_structural_plasticity
        self._error = nest.NESTError
        self.recorders = nest_recorders.Recorders(nest, api, numpy, self)

    def time(self):
        """Biological time in ms. Reading the kernel's status takes as long as a short simulation, so simulated time is counted."""
        if self._tics is None:
            self._tics = round(self._get_status()["biological_time"] * (self._facts or self._read_facts())[0])
        return self._tics / (self._facts or self._read_facts())[0]

    def _passed(self, t):
        if self._tics is not None and self._facts:
            self._tics += round(t * self._facts[0])

    def threads(self):
        facts = self._facts or self._read_facts()
        return facts[3]

    def resolution(self):
        facts = self._facts or self._read_facts()
        return facts[1] / facts[0]

    def prepared(self):
        return self._prepared or self._own

    def aside(self, work):
        """Runs `work`, in which nothing is raised; an interrupt that came meanwhile, afterwards."""
        interrupts = self.session.interrupts
        interrupts.deferred += 1
        try:
            work()
        finally:
            interrupts.deferred -= 1
        if interrupts.requested and not interrupts.raised and interrupts.armed and self.session.scripted:
            interrupts.raised = True
            raise KeyboardInterrupt("interrupted")

    def install(self):
        api = self.api
        api.llapi_simulate = self.simulate
        api.llapi_run = self.run
        api.llapi_prepare = self.prepare
        api.llapi_cleanup = self.cleanup
        api.llapi_reset_kernel = self.reset
        api.llapi_set_kernel_status = self.set_status
        api.llapi_get_kernel_status = self.get_status
        api.llapi_create_spatial = self.create_spatial
        api.llapi_enable_structural_plasticity = self.enable_plasticity
        api.llapi_disable_structural_plasticity = self.disable_plasticity
        for name in self.GROWING:
            if hasattr(api, name):
                setattr(api, name, self._growing(getattr(api, name)))
        for name in ("llapi_create_parameter", "llapi_create_mask"):
            setattr(api, name, _remember(getattr(api, name)))

    def _growing(self, function):
        def call(*args, **kwargs):
            self._speed = 0.0
            made = function(*args, **kwargs)
            if creates:
                self.recorders.created(args[0] if args else kwargs.get("model"), made)
            return made

        creates = function.__name__ == "llapi_create"
        call.__name__ = function.__name__
        call.__doc__ = function.__doc__
        return call

    # -- replacements -------------------------------------------------------------------------------------------------

    def reset(self):
        if self.recorders.send is not None:
            self.aside(self.recorders.before_reset)
        self._reset()
        self._facts = self._tics = None
        self._speed = 0.0
        self._spikes = 0
        self._prepared = self._plastic = False
        self.layers = []
        self.recorders.forget()
        self.resets += 1
        if self.recorders.send is not None:
            # who follows must hear of it between the data of before and those of afterwards
            self.session.state_now(reset=True)
            self.told = self.resets

    def create_spatial(self, specs):
        self._speed = 0.0
        self.recorders.grown()
        made = self._create_spatial(specs)
        ids = self.api.llapi_node_collection_to_array(made._datum, "all")
        if len(ids):
            self.layers.append((int(ids[0]), int(ids[-1]), made))
        return made

    def enable_plasticity(self):
        self._enable_plasticity()
        self._plastic = True

    def disable_plasticity(self):
        self._disable_plasticity()
        self._plastic = False

    def get_status(self):
        status = self._get_status()
        if self._spikes:
            status["local_spike_counter"] += self._spikes
        return status

    def set_status(self, params):
        if self.max_threads:
            self._check_threads(params)
        self._facts = self._tics = None
        self._speed = 0.0
        return self._set_status(params)

    def _check_threads(self, params):
        try:
            for name in ("local_num_threads", "total_num_virtual_procs"):
                wanted = params.get(name)
                if wanted is not None and int(wanted) > self.max_threads:
                    raise ValueError(
                        f"{name} = {int(wanted)} is more than this session may use: at most {self.max_threads}"
                    )
        except (AttributeError, TypeError):
            return  # NEST says it better

    def prepare(self):
        def work():
            self._prepare()
            self._prepared = True

        self.aside(work)

    def cleanup(self):
        def work():
            self._prepared = False
            self._cleanup()

        self.aside(work)
        self._follow_on()

    def _follow_on(self):
        """Between two simulations of a script: recorders are read if it is time to."""
        if self.recorders.due():
            self.aside(lambda: self.recorders.drain(False))
        if self.session is not None and self.session.interrupts.follows:
            self.aside(self.session.interrupts.follow_now)

    def run(self, t):
        tics, self._tics = self._tics, None  # unknown if it fails
        result = self._run_whole(t)
        self._tics = tics
        self._passed(t)
        return result

    def simulate(self, t):
        tics, self._tics = self._tics, None
        result = self._simulate_whole(t)
        self._tics = tics
        self._passed(t)
        if self.session is not None and (self.recorders.send is not None or self.session.interrupts.follows):
            self._follow_on()
        return result

    def _run_whole(self, t):
        if self._sliceable(t):
            return self._slices(t, False)
        self._spikes = 0
        return self._run(t)

    def _simulate_whole(self, t):
        speed = self._speed
        if speed and (t.__class__ is float or t.__class__ is int) and 0 < t * speed < SLICE_S:
            self._spikes = 0
            started = time.perf_counter()
            try:
                self._simulate(t)
            except self._error:
                self._tidy()
                raise
            self._speed = (time.perf_counter() - started) / t
            return None
        if not self._prepared and self._sliceable(t):
            # no interrupt may leave the kernel prepared
            interrupts = self.session.interrupts
            interrupts.deferred += 1
            try:
                self._prepare()  # settles min_delay, too
                self._own = True
                return self._slices(t, True)
            finally:
                if self._own:
                    self._own = False
                    self._cleanup()
                interrupts.deferred -= 1
        self._spikes = 0
        try:
            return self._simulate(t)
        except self._error:
            self._tidy()
            raise

    def _tidy(self):
        # NEST leaves a kernel prepared whose run failed; each later Simulate would fail then
        if not self._prepared:
            try:
                self._cleanup()
            except Exception:
                pass

    # -- slices -------------------------------------------------------------------------------------------------------

    def _read_facts(self):
        status = self._get_status()
        self._facts = (float(status["tics_per_ms"]), int(status["tics_per_step"]), int(status["num_processes"]), int(status["local_num_threads"]),
                       float(status["T_max"]))
        return self._facts

    def _sliceable(self, t):
        """Leaves to NEST itself what it refuses: no number, negative, not a multiple of the resolution, too long."""
        if not isinstance(t, (float, int)) or self.session is None:
            return False
        facts = self._facts or self._read_facts()
        if not 0 < t < facts[4]:
            return False
        if facts[2] > 1 or self._plastic:
            if t * self._speed > SLICE_S or not self._speed:
                self.session.interruptible(False)
            return False
        tics = t * facts[0]
        whole = round(tics)
        return abs(tics - whole) < 1e-6 * max(1.0, facts[0] * 1e-3) and whole % facts[1] == 0

    def _between(self, work):
        """Does what NEST allows only outside of Prepare and Cleanup, between two slices of a Simulate."""
        self._own = False
        self._cleanup()
        work()
        self._prepare()
        self._own = True

    def _read_recorders(self):
        started = time.perf_counter()
        if self.recorders.may_pause():
            self._between(lambda: self.recorders.drain(True))
        else:
            self.recorders.drain(True)  # says that it comes later
        self.recorders.took(started)

    def _slices(self, t, own):
        """Runs t ms in slices; `own`: Prepare was ours, so Cleanup is."""
        tics_per_ms, step = self._facts[:2]
        session = self.session
        interrupts = session.interrupts
        session.interruptible(True)
        run = self._run
        self._own = own
        clock = time.perf_counter
        total = round(t * tics_per_ms)
        status = self._get_status()  # after Prepare, which settles min_delay
        verbosity = status["verbosity"]
        interval = max(step, round(status["min_delay"] * tics_per_ms))
        now = round(status["biological_time"] * tics_per_ms)
        done = 0
        self._spikes = 0
        size = interval
        if self._speed:
            size = int(SLICE_S / self._speed * tics_per_ms)
        quiet = False
        interrupts.deferred += 1
        try:
            while True:
                begin = now + done
                end = max((begin + size) // interval, begin // interval + 1) * interval
                size = min(end - begin, total - done)
                if not quiet and done + size < total and verbosity < 25:
                    # one message of the kernel for the whole, not one for each slice
                    quiet = True
                    self._set_status({"verbosity": self.api.VerbosityLevel.WARNING})
                started = clock()
                run(size / tics_per_ms)
                took = clock() - started
                done += size
                self._speed = took / (size / tics_per_ms)
                if interrupts.branches:
                    interrupts.branch_now()
                if done >= total:
                    break
                if interrupts.requested and not interrupts.raised:
                    interrupts.raised = True
                    raise KeyboardInterrupt(f"interrupted at t = {done / tics_per_ms:g} ms of {t:g} ms")
                self._spikes += self._get_status()["local_spike_counter"]
                if interrupts.follows:
                    if own and self.recorders.may_pause():
                        self._between(interrupts.follow_now)
                    else:
                        interrupts.follow_now()
                elif own and self.recorders.due():
                    self._read_recorders()
                session.progress(done / tics_per_ms, t)
                grow = min(GROWTH, SLICE_S / took) if took > 0 else GROWTH
                size = int(size * grow)
        finally:
            interrupts.deferred -= 1
            if quiet:
                self._set_status({"verbosity": verbosity})
            if self._own:
                self._own = False
                self._cleanup()
        if interrupts.requested and not interrupts.raised and session.scripted:
            interrupts.raised = True
            raise KeyboardInterrupt(f"interrupted at t = {t:g} ms of {t:g} ms")


def _remember(function):
    """Makes parameters and masks know the specs they were made of."""

    def call(specs):
        made = function(specs)
        try:
            made._specs = specs
        except AttributeError:
            pass
        return made

    call.__name__ = function.__name__
    return call


class NestEngine(Engine):
    name = "nest"

    def __init__(self):
        super().__init__()
        import nest
        import nest.nestkernel_api as api
        import numpy

        self.nest = nest
        self.api = api
        self.numpy = numpy
        # positions and the like are loaded late by PyNEST; do it once, before the fork
        self._spatial = nest.spatial
        self._version = nest.__version__
        self._mpi = bool(api.llapi_get_kernel_status()["num_processes"] > 1)
        self.kernel = Kernel(nest, api, numpy)
        self.kernel.install()
        self._calls = {}
        self._collections = {}  # of closed loops, by ids
        self._collections_of = 0  # resets
        self._dirty = False
        self._resets = 0
        self.methods = {"api": self.call, "list": self.list, "recorders": lambda name, args, kwargs: self.kernel.recorders.list()}

    # -- what a session asks ------------------------------------------------------------------------------------------

    def versions(self):
        versions = super().versions()
        versions.update(nest=self._version, numpy=self.numpy.__version__)
        return versions

    def version(self):
        return {"mpi": self._mpi, "nest": self._version}

    def list(self):
        return sorted(name for name in dir(self.nest) if not name.startswith("_"))

    def names(self):
        # NEST Server's restricted scripts find these four without importing them
        return {"math": math, "random": random, "string": string, "time": time, "nest": self.nest}

    def kernel_errors(self):
        return (self.nest.NESTError,)

    def facts(self):
        status = self.api.llapi_get_kernel_status()
        return {"seeds": {"rng_seed": int(status["rng_seed"])}, "threads": int(status["local_num_threads"])}

    def step(self, request):
        """{"set": [{"nodes", "params"}], "advance": ms, "get": [{"nodes", "keys"}]}, all optional. By the kernel's own calls: PyNEST's
        `set` and `get` read whole statuses."""
        unknown = set(request) - {"set", "advance", "get"}
        if unknown:
            raise ValueError(f"a step has set, advance and get (or call and args), not {', '.join(sorted(unknown))}")
        api = self.api
        for one in request.get("set", ()):
            nodes, params = self._nodes_of(one), one["params"]
            lists = {key: value for key, value in params.items() if isinstance(value, list) and len(value) == len(nodes) and len(nodes) > 1}
            if lists:
                each = [dict(params, **{key: value[i] for key, value in lists.items()}) for i in range(len(nodes))]
            else:
                each = [params]
            api.llapi_set_nc_status(nodes._datum, each)
        advance = request.get("advance")
        if advance:
            self.kernel.simulate(advance)
        out = []
        for one in request.get("get", ()):
            datum, several = self._nodes_of(one)._datum, len(one["nodes"]) > 1
            values = {}
            for key in one["keys"]:
                value = api.llapi_get_nc_status(datum, key)
                values[key] = value if several else [value]
            out.append(values)
        return {"time_ms": self.kernel.time(), "get": out}

    def _nodes_of(self, one):
        ids = tuple(one["nodes"])
        nodes = self._collections.get(ids)
        if nodes is None or self._collections_of != self.kernel.resets:
            if self._collections_of != self.kernel.resets or len(self._collections) >= 64:
                self._collections.clear()
                self._collections_of = self.kernel.resets
            nodes = self._collections[ids] = self.nest.NodeCollection(list(ids))
        return nodes

    def follow(self, send):
        recorders = self.kernel.recorders
        if not send:
            recorders.send = None
        elif recorders.send is None:
            recorders.follow(send)

    def flush(self):
        if self.kernel.recorders.send:
            self.kernel.recorders.drain(True)

    def before_branch(self):
        # OpenMP's threads end here and start again at the next simulation, on both sides
        try:
            ctypes.CDLL(None).omp_pause_resource_all(2)
        except AttributeError:
            pass  # an old libgomp: with more than one thread the branch is refused

    def hooks(self):
        nest = self.nest
        return [
            (nest.NodeCollection, self._ids),
            (nest.SynapseCollection, self._columns),
            ((nest.Parameter, nest.Mask), _specs),
            (nest.CollocatedSynapses, lambda value: list(value.syn_specs)),
            (inspect.Signature, str),
        ]

    def open(self, session):
        super().open(session)
        self.kernel.session = session
        processes = int(session.options.get("processes") or 0)
        if processes:
            self.kernel.max_threads = max(1, processes - RESERVED_PROCESSES)
        self._resets = self.kernel.resets

    def after_call(self, meta, failure):
        method = meta["method"]
        if method == "version" or method == "list":
            return
        resets = self.kernel.resets
        was_reset = resets != self._resets
        self._resets = resets
        mutating = method == "exec"
        if method == "api":
            name = meta.get("name")
            mutating = name in self._calls and name not in READ_ONLY and name != "ResetKernel"
        if was_reset and self._dirty:
            self._dirty = False
            if self.kernel.told != resets:
                self.session.state(reset=True)
        if mutating and not self._dirty:
            self._dirty = True
            self.session.state(dirty=True)

    # -- results ------------------------------------------------------------------------------------------------------

    def _ids(self, value):
        try:
            ids = self.api.llapi_node_collection_to_array(value._datum, "all")
        except (AttributeError, TypeError):
            return value.tolist()
        return ids.tolist() if isinstance(ids, self.numpy.ndarray) else list(ids)

    def _columns(self, value):
        status = value.get()
        if len(value) <= rope.SMALL_VALUES:
            return status
        numpy = self.numpy
        for name, column in status.items():
            kinds = set(map(type, column)) if isinstance(column, (list, tuple)) else ()
            if len(kinds) == 1 and kinds <= {int, float}:
                try:
                    status[name] = numpy.array(column)
                except OverflowError:
                    pass
        return status

    # -- calls by name ------------------------------------------------------------------------------------------------

    def call(self, name, args, kwargs):
        known = self._calls.get(name)
        if known is None:
            if name.startswith("_") or not name:
                raise AttributeError(f"module 'nest' has no attribute '{name}'")
            value = getattr(self.nest, name)
            if not callable(value):
                return value
            known = self._calls[name] = (value, _parameters(value), getattr(self, "_call_" + name, None))
        function, parameters, special = known
        if "inspect" in kwargs:
            member = getattr(inspect, str(kwargs["inspect"]))
            return {"data": member(function)}
        if not args and not kwargs:
            return function()
        args = [
            self._argument(parameters[i] if i < len(parameters) else "", value) for i, value in enumerate(args)
        ]
        kwargs = {key: self._argument(key, value) for key, value in kwargs.items()}
        if special is not None:
            return special(function, args, kwargs)
        return function(*args, **kwargs)

    def _argument(self, name, value):
        if name in NODE_NAMES or name in CONNECTION_NAMES:
            if isinstance(value, dict) and name != "nodes" or _rows(value):
                return self.connections(value)
            return self.nodes(value, name)
        if name in PARAMETER_NAMES and isinstance(value, (dict, list)):
            if name == "positions":
                return self.positions(value)
            value = self.objects(value, name in ("mask", "mask_obj"))
            if name == "syn_spec" and isinstance(value, list) and all(isinstance(item, dict) for item in value):
                return self.nest.CollocatedSynapses(*value)
        return value

    def _call_GetStatus(self, function, args, kwargs):
        _rename(kwargs, ("nodes", "conns", "connections"), "nodes_or_conns")
        return function(*args, **kwargs)

    _call_SetStatus = _call_GetStatus

    def _call_Disconnect(self, function, args, kwargs):
        if not args:
            for names in (("conns",), ("connections",), ("nodes_or_conns",), ("synapsecollection",), ("pre", "post")):
                if all(name in kwargs for name in names):
                    args = [kwargs.pop(name) for name in names]
                    break
        made = []
        for value in args:
            if isinstance(value, dict) or _rows(value):
                made.append(self.connections(value))
            else:
                made.append(self.nodes(value, "pre"))
        if len(made) == 1 and isinstance(made[0], self.nest.SynapseCollection) and not len(made[0]):
            return None
        return function(*made, **kwargs)

    def _call_SetKernelStatus(self, function, args, kwargs):
        if not args and kwargs and "params" not in kwargs:
            return function(kwargs)
        return function(*args, **kwargs)

    def _call_Distance(self, function, args, kwargs):
        def convert(value):
            return self.nodes(value, "layer") if isinstance(value, list) and value and type(value[0]) is int else value

        return function(*map(convert, args), **{key: convert(value) for key, value in kwargs.items()})

    _call_Displacement = _call_Distance

    # -- arguments ----------------------------------------------------------------------------------------------------

    def nodes(self, value, name="nodes"):
        """A NodeCollection of ids; what isn't ids is left to NEST to refuse."""
        nest = self.nest
        if value is None or isinstance(value, (nest.NodeCollection, nest.SynapseCollection)):
            return value
        if type(value) is int:
            value = [value]
        elif isinstance(value, str):
            try:
                value = [int(part) for part in value.strip("[] ").split(",")]
            except ValueError:
                raise TypeError(f"{name} must be node ids, not {value[:80]!r}") from None
        if self.kernel.layers and isinstance(value, list) and value:
            made = self._layer(value)
            if made is not None:
                return made
        return nest.NodeCollection(value)

    def _layer(self, ids):
        """The part of a layer that these ids are, so that they have their positions; None if they're no regular part of one."""
        first, last = ids[0], ids[-1]
        for low, high, layer in self.kernel.layers:
            if type(first) is int and type(last) is int and low <= first <= last <= high:
                if len(ids) == 1:
                    return layer[first - low : first - low + 1]
                step = ids[1] - first if type(ids[1]) is int else 0
                if step < 1 or ids != list(range(first, last + 1, step)):
                    return None
                return layer if len(ids) == len(layer) else layer[first - low : last - low + 1 : step]
        return None

    _NARROWING = ("synapse_model", "synapse_id", "port", "target_thread", "receptor")

    def connections(self, value):
        """A SynapseCollection of what GetConnections answered. ValueError if there's no such connection."""
        nest = self.nest
        if isinstance(value, dict) and "connections" in value:
            value = value["connections"]
        if isinstance(value, nest.SynapseCollection):
            return value
        if isinstance(value, dict):
            wanted = _unzip(value)
        elif isinstance(value, list):
            wanted = []
            for item in value:
                if not isinstance(item, dict):
                    raise TypeError("connections must be objects with source and target")
                wanted.extend(_unzip(item))
        else:
            raise TypeError("connections must be an object of columns or an array of objects")
        if not wanted:
            return nest.SynapseCollection(None)
        for item in wanted:
            if "source" not in item or "target" not in item:
                raise ValueError("connections need source and target")
        sources = nest.NodeCollection(sorted({int(item["source"]) for item in wanted}))
        targets = nest.NodeCollection(sorted({int(item["target"]) for item in wanted}))
        models = {item.get("synapse_model") for item in wanted}
        model = models.pop() if len(models) == 1 else None
        found = nest.GetConnections(sources, targets, model) if model else nest.GetConnections(sources, targets)
        data = found._datum or []
        statuses = self.api.llapi_get_connection_status(data) if data else []
        if isinstance(statuses, dict):
            statuses = [statuses]
        by_keys = {}
        chosen, seen = [], set()
        for item in wanted:
            keys = tuple(key for key in self._NARROWING if item.get(key) is not None)
            index = by_keys.get(keys)
            if index is None:
                index = by_keys[keys] = {}
                for i, status in enumerate(statuses):
                    key = (status["source"], status["target"]) + tuple(_plain(status.get(k)) for k in keys)
                    index.setdefault(key, []).append(i)
            key = (int(item["source"]), int(item["target"])) + tuple(item[k] for k in keys)
            matches = index.get(key)
            if not matches:
                more = "".join(f", {k} {item[k]}" for k in keys)
                raise ValueError(f"there's no connection with source {item['source']}, target {item['target']}{more}")
            for i in matches:
                if i not in seen:
                    seen.add(i)
                    chosen.append(data[i])
        return nest.SynapseCollection(chosen)

    def positions(self, value):
        """What Create takes as positions."""
        spatial = self._spatial
        if isinstance(value, list):
            return spatial.free(self.objects(value))
        if len(value) == 1:
            (kind, specs), = value.items()
            kind = kind[len("nest.spatial.") :] if kind.startswith("nest.spatial.") else kind
            if kind == "grid":
                return spatial.grid(**specs) if isinstance(specs, dict) else spatial.grid(specs)
            if kind == "free":
                specs = self.objects(specs)
                return spatial.free(**specs) if isinstance(specs, dict) else spatial.free(specs)
        raise TypeError('positions must be {"grid": {"shape": [...]}}, {"free": {"pos": ...}} or an array of coordinates')

    def objects(self, value, mask=False):
        """Replaces the JSON forms of parameters, masks and nodes inside specs by their objects."""
        if isinstance(value, list):
            return [self.objects(item) if isinstance(item, (dict, list)) else item for item in value]
        if not isinstance(value, dict):
            return value
        if 1 <= len(value) <= 2:
            made = self._object(value, mask)
            if made is not None:
                return made
        out = {}
        for key, item in value.items():
            if key == "volume_transmitter":
                item = self.nodes(item, key)
            elif key == "mask":
                pass  # Connect takes the specs; it refuses the object (3.10)
            elif isinstance(item, (dict, list)):
                item = self.objects(item)
            out[key] = item
        return out

    def _object(self, value, mask):
        nest = self.nest
        if mask:
            for kind, specs in value.items():
                known = MASKS.get(kind)
                if known is not None and isinstance(specs, dict) and known.issuperset(specs):
                    anchor = value.get("anchor")
                    if len(value) == 1 or anchor is not None:
                        return nest.CreateMask(kind, specs, anchor)
            if len(value) != 1:
                return None
        elif len(value) != 1:
            return None
        (kind, specs), = value.items()
        if kind.startswith("nest."):
            return self._named(kind, specs)
        known = PARAMETERS.get(kind)
        if known is None or not isinstance(specs, dict) or not known.issuperset(specs):
            return None
        made = {}
        for key, item in specs.items():
            if isinstance(item, dict):
                item = self.objects(item)
            elif isinstance(item, int) and kind not in ("uniform_int", "distance", "position"):
                item = float(item)
            made[key] = item
        return nest.CreateParameter(kind, made)

    def _named(self, name, specs):
        parts = name.split(".")
        if len(parts) < 3 or parts[1] not in FUNCTION_MODULES or any(part.startswith("_") for part in parts):
            raise ValueError(f"'{name}' is not a parameter: use nest.random, math, logic, spatial or spatial_distributions")
        value = getattr(self.nest, parts[1])
        for part in parts[2:]:
            value = getattr(value, part)
        if specs is None and isinstance(value, self.nest.Parameter):
            return value
        if isinstance(specs, dict):
            return value(**{key: self.objects(item) for key, item in specs.items()})
        if isinstance(specs, list):
            return value(*(self.objects(item) if isinstance(item, (dict, list)) else item for item in specs))
        return value() if specs is None else value(specs)


def _parameters(function):
    """Names of the positional parameters of a function."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return ()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(name for name, parameter in signature.parameters.items() if parameter.kind in kinds)


def _rename(kwargs, names, to):
    if to not in kwargs:
        for name in names:
            if name in kwargs:
                kwargs[to] = kwargs.pop(name)
                return


def _rows(value):
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _plain(value):
    return value if value is None or isinstance(value, str) else int(value)


def _unzip(columns):
    """An object of columns or scalars as a list of objects."""
    length = None
    for value in columns.values():
        if isinstance(value, list):
            if length is not None and len(value) != length:
                raise ValueError("the columns of connections differ in length")
            length = len(value)
    if length is None:
        return [columns] if columns else []
    return [{key: (value[i] if isinstance(value, list) else value) for key, value in columns.items()} for i in range(length)]


def _specs(value):
    specs = getattr(value, "_specs", None)
    if specs is None:
        raise TypeError(
            f"a {type(value).__name__} can't be returned: it was made by arithmetic, not from specs; {rope.ADVICE}"
        )
    return dict(specs)


def load():
    engine = NestEngine()
    sys.stdout.flush()
    return engine
