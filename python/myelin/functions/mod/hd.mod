TITLE Current that opens with hyperpolarisation, closed above a voltage

COMMENT
i = gbar l (v - ehd). l_inf is logistic, and 0 above seg. ehd is 0 mV unless it is set.
ENDCOMMENT

NEURON {
    SUFFIX hd
    NONSPECIFIC_CURRENT i
    RANGE gbar, hhalf, hk, ehd, seg
    RANGE linf, taul
    THREADSAFE
}

UNITS {
    (mA) = (milliamp)
    (mV) = (millivolt)
    (S) = (siemens)
}

PARAMETER {
    gbar = 0.001 (S/cm2)
    hhalf = -81 (mV)
    hk = -8 (mV)
    ehd = 0 (mV)
    seg = -62.5 (mV)
    thalf = -75 (mV)
    slope = 0.08316 (/mV)   : 0.0378 * 2.2
    position = 0.4
    a0 = 0.011 (/ms)
    q10 = 4.5
    celsius (degC)
}

ASSIGNED {
    v (mV)
    i (mA/cm2)
    linf
    taul (ms)
}

STATE { l }

INITIAL {
    gates(v)
    l = linf
}

BREAKPOINT {
    SOLVE states METHOD cnexp
    i = gbar * l * (v - ehd)
}

DERIVATIVE states {
    gates(v)
    l' = (linf - l) / taul
}

UNITSOFF
PROCEDURE gates(v) { LOCAL y
    y = slope * (v - thalf)
    taul = exp(position * y) / (q10^((celsius - 33) / 10) * a0 * (1 + exp(y)))
    if (v > seg) {
        linf = 0
    } else {
        linf = 1 / (1 + exp(-(v - hhalf) / hk))
    }
}
UNITSON
