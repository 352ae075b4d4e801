TITLE Potassium current that is closed below a voltage

COMMENT
i = gbar n (v - ek). n_inf is logistic, and 0 below seg; the time constant is that of a single barrier (valence and position as
given), with a minimum.
ENDCOMMENT

NEURON {
    SUFFIX k1
    USEION k READ ek WRITE ik
    RANGE gbar, nhalf, kn, tau_factor, seg
    RANGE ninf, taun, ik
    THREADSAFE
}

UNITS {
    (mA) = (milliamp)
    (mV) = (millivolt)
    (S) = (siemens)
}

PARAMETER {
    gbar = 0.012 (S/cm2)
    nhalf = -15 (mV)
    kn = 11 (mV)
    tau_factor = 1
    seg = -60 (mV)
    valence = -3
    position = 0.7
    a0 = 0.02 (/ms)
    taun_least = 2 (ms)
    celsius (degC)
}

ASSIGNED {
    v (mV)
    ek (mV)
    ik (mA/cm2)
    ninf
    taun (ms)
}

STATE { n }

INITIAL {
    gates(v)
    n = ninf
}

BREAKPOINT {
    SOLVE states METHOD cnexp
    ik = gbar * n * (v - ek)
}

DERIVATIVE states {
    gates(v)
    n' = (ninf - n) / taun
}

UNITSOFF
PROCEDURE gates(v) { LOCAL x
    x = 1e-3 * valence * (v - nhalf) * 9.648e4 / (8.315 * (273.16 + celsius))
    taun = tau_factor * exp(position * x) / (a0 * (1 + exp(x)))
    if (taun < taun_least) { taun = taun_least }
    if (v < seg) {
        ninf = 0
    } else {
        ninf = 1 / (1 + exp((nhalf - v) / kn))
    }
}
UNITSON
