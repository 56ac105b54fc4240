"""Seeded series for the forecast bench, and the origins at which everybody forecasts one step.

    forecast_series.py OUT.json --seed N --sets K --origins M [--data FOLDER]

One set is 23 series: 14 processes of known order, 5 that no ARIMA model made (outliers, a new level, a trend, missing
values, 1e9 scale), 3 short ones of 8-15 values, and a constant. FOLDER may hold further series, one .csv each (one value
per line, an empty line is missing).
"""

import argparse
import json
import pathlib

import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("out")
parser.add_argument("--seed", type=int, required=True)
parser.add_argument("--sets", type=int, required=True)
parser.add_argument("--origins", type=int, required=True, help="per long series")
parser.add_argument("--data")
options = parser.parse_args()


def arima(rng, n, ar=(), ma=(), d=0, mean=0.0, scale=1.0):
    burn = 200
    e = rng.normal(size=n + burn) * scale
    w = np.zeros(n + burn)
    for t in range(3, n + burn):
        w[t] = (e[t] + sum(c * w[t - 1 - i] for i, c in enumerate(ar))
                + sum(c * e[t - 1 - i] for i, c in enumerate(ma)))
    w = w[burn:] + mean
    return np.cumsum(w) if d else w


def one_set(rng):
    n = 120
    known = {
        "noise": dict(mean=0.3), "ar1-.5": dict(ar=[0.5]), "ar1-.9": dict(ar=[0.9]), "ar1-neg": dict(ar=[-0.6]),
        "ar2-cycle": dict(ar=[1.2, -0.5]), "ma1": dict(ma=[0.6]), "ma2": dict(ma=[0.5, 0.4]),
        "arma11": dict(ar=[0.7], ma=[0.4]), "arma21": dict(ar=[0.5, 0.3], ma=[-0.4]), "walk": dict(d=1),
        "drift": dict(d=1, mean=0.4), "ari11": dict(ar=[0.5], d=1), "ima11": dict(ma=[-0.6], d=1),
        "arima111": dict(ar=[0.6], ma=[-0.3], d=1),
    }
    for name, process in known.items():
        yield name, arima(rng, n, **process)
    y = arima(rng, n, ar=[0.5])
    y[rng.choice(np.arange(10, n), size=3, replace=False)] += rng.choice([-8, 8], size=3)
    yield "outliers", y
    y = arima(rng, n, ar=[0.4])
    y[n // 2:] += 4
    yield "level", y
    yield "trend", 0.05 * np.arange(n) + arima(rng, n, ar=[0.3])
    y = arima(rng, n, ar=[0.8])
    y[rng.choice(np.arange(5, n), size=10, replace=False)] = np.nan
    yield "missing", y
    yield "1e9", 1e9 * arima(rng, n, ar=[0.3], ma=[0.3], d=1)
    yield "short-8", arima(rng, 8, ar=[0.5], scale=0.05, mean=0.1)
    yield "short-12", arima(rng, 12, d=1, scale=0.05)
    yield "short-15", arima(rng, 15, ar=[0.3], scale=0.05, mean=0.1)
    yield "constant", np.full(30, 0.25)


series = []
for k in range(options.sets):
    for name, y in one_set(np.random.default_rng([options.seed, k])):
        series.append((f"{k}/{name}", y))
if options.data:
    for file in sorted(pathlib.Path(options.data).glob("*.csv")):
        series.append((file.stem, np.array([float(line) if line.strip() else np.nan
                                            for line in file.read_text().splitlines()])))

out = []
for name, y in series:
    n = len(y)
    short = n < 20
    first = 4 if short else n // 2
    step = 1 if short else max(1, (n - first) // options.origins)
    # A missing value cannot be missed: those origins are left out.
    origins = [t for t in range(first, n, step) if not np.isnan(y[t])]
    out.append({"name": name, "short": short, "constant": bool(np.nanstd(y) == 0), "origins": origins,
                "values": [None if np.isnan(v) else float(v) for v in y]})
pathlib.Path(options.out).write_text(json.dumps(out))
print(f"{len(out)} series, {sum(len(s['origins']) for s in out)} origins")
