"""statsmodels and statsforecast on the series of forecast_series.py: one JSON line a forecast.

    forecast_python.py SERIES.json statsmodels|statsforecast OUT.jsonl

statsmodels: the order with the smallest AIC among p, q <= 2, d <= 1, chosen once on the values before the first origin
(its own search at every origin would take 18 fits), parameters fitted anew at each origin. statsforecast: AutoARIMA,
p, q <= 2, d <= 1, no season. Neither takes missing values everywhere: they are filled by interpolation for
statsforecast. An error is reported as such.
"""

import json
import sys
import time
import warnings

import numpy as np

source, peer, target = sys.argv[1:]


def of_statsmodels():
    from statsmodels.tsa.arima.model import ARIMA

    warnings.simplefilter("ignore")  # after the import, which asks for every warning

    def fitted(y, order):
        return ARIMA(y, order=order, trend="c" if order[1] == 0 else "n").fit()

    def choose(y):
        best = None
        for d in (0, 1):
            for p in range(3):
                for q in range(3):
                    try:
                        aic = fitted(y, (p, d, q)).aic
                    except Exception:
                        continue
                    if np.isfinite(aic) and (best is None or aic < best[0]):
                        best = (aic, (p, d, q))
        return best[1] if best else (0, 1, 0)

    orders = {}

    def ahead(name, y):
        if name not in orders:
            orders[name] = choose(y)
        started = time.perf_counter()
        result = fitted(y, orders[name]).get_forecast(1)
        low, high = result.conf_int(alpha=0.05)[0]
        return result.predicted_mean[0], low, high, time.perf_counter() - started

    return ahead


def of_statsforecast():
    from statsforecast.models import AutoARIMA

    def ahead(_, y):
        if np.isnan(y).any():
            seen = ~np.isnan(y)
            y = np.interp(np.arange(len(y)), np.flatnonzero(seen), y[seen])
        started = time.perf_counter()
        model = AutoARIMA(season_length=1, max_p=2, max_q=2, max_d=1, seasonal=False)
        result = model.forecast(y=y, h=1, level=[95])
        low, high = result["lo-95"][0], result["hi-95"][0]
        return result["mean"][0], low, high, time.perf_counter() - started

    return ahead


ahead = of_statsmodels() if peer == "statsmodels" else of_statsforecast()
ahead("warm-up", np.sin(np.arange(40)))
with open(target, "w") as out:
    for series in json.load(open(source)):
        y = np.array([np.nan if v is None else v for v in series["values"]])
        for origin in series["origins"]:
            row = {"name": series["name"], "origin": origin}
            try:
                mean, low, high, seconds = (float(x) for x in ahead(series["name"], y[:origin]))
                if not np.isfinite([mean, low, high]).all():
                    raise ValueError("not finite")
                row |= {"mean": mean, "low": low, "high": high, "ms": 1e3 * seconds}
            except Exception as error:
                row["error"] = f"{type(error).__name__}: {error}"[:200]
            out.write(json.dumps(row) + "\n")
