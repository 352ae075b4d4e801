TITLE Sodium current whose gates have a step

COMMENT
i = gbar m^3 h (v - ena). Both curves are logistic, and cut at the voltage seg: m_inf is 0 below it, h_inf is 0 above it.
Time constants are 1/(qt (alpha + beta)), with rates of the form a x/(1 - exp(-x/q)), and have a minimum.
ENDCOMMENT

NEURON {
    SUFFIX na1
    USEION na READ ena WRITE ina
    RANGE gbar, mhalf, mk, hhalf, hk, tau_factor_m, tau_factor_h, seg
    RANGE minf, mtau, hinf, htau, ina
    THREADSAFE
}

UNITS {
    (mA) = (milliamp)
    (mV) = (millivolt)
    (S) = (siemens)
}

PARAMETER {
    gbar = 0.12 (S/cm2)
    mhalf = -38.43 (mV)
    mk = 7.2 (mV)
    hhalf = -50 (mV)
    hk = 4 (mV)
    tau_factor_m = 1
    tau_factor_h = 1
    seg = -61 (mV)
    qt = 1.6245         : rates at 6.3 degC relative to those of the fit
    mq = 7.2 (mV)
    hq = 1.5 (mV)
    mtau_least = 0.02 (ms)
    htau_least = 0.5 (ms)
}

ASSIGNED {
    v (mV)
    ena (mV)
    ina (mA/cm2)
    minf
    hinf
    mtau (ms)
    htau (ms)
}

STATE { m h }

INITIAL {
    gates(v)
    m = minf
    h = hinf
}

BREAKPOINT {
    SOLVE states METHOD cnexp
    ina = gbar * m * m * m * h * (v - ena)
}

DERIVATIVE states {
    gates(v)
    m' = (minf - m) / mtau
    h' = (hinf - h) / htau
}

UNITSOFF
PROCEDURE gates(v) {
    mtau = tau_factor_m / (qt * (rate(v - mhalf, 0.4, mq) + rate(mhalf - v, 0.124, mq)))
    if (mtau < mtau_least) { mtau = mtau_least }
    htau = tau_factor_h / (qt * (rate(v - hhalf, 0.03, hq) + rate(hhalf - v, 0.01, hq)))
    if (htau < htau_least) { htau = htau_least }
    if (v < seg) {
        minf = 0
    } else {
        minf = 1 / (1 + exp((mhalf - v) / mk))
    }
    if (v > seg) {
        hinf = 0
    } else {
        hinf = 1 / (1 + exp((v - hhalf) / hk))
    }
}

FUNCTION rate(x, a, q) {
    if (fabs(x) > 1e-6) {
        rate = a * x / (1 - exp(-x / q))
    } else {
        rate = a * q
    }
}
UNITSON
