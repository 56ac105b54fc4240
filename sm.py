import numpy as np, warnings
from statsmodels.tsa.arima.model import ARIMA
warnings.simplefilter('ignore')
rng=np.random.default_rng(1)
for scale,off in [(1,0),(.05,.5),(1,100),(50,1000),(1e3,1e6)]:
    e=rng.normal(size=120)*scale; y=off+np.cumsum(e)
    m=ARIMA(y,order=(1,1,1)); s2=scale**2*1.1
    r=m.filter([.3,-.2,s2])
    m0=ARIMA(np.diff(y),order=(1,0,1),trend='n'); r0=m0.filter([.3,-.2,s2])
    f=r.get_forecast(3); f0=r0.get_forecast(3)
    print(scale,off,r.llf,r0.llf,(r.llf-r0.llf)/r0.llf, f.predicted_mean, y[-1]+np.cumsum(f0.predicted_mean), f.se_mean)
    print(m.loglikelihood_burn, m.ssm.initialization)
    yy=y.copy(); yy[[10,11,40]]=np.nan
    print(' miss', ARIMA(yy,order=(1,1,1)).filter([.3,-.2,s2]).llf)
    yy[0]=np.nan
    print(' miss0', ARIMA(yy,order=(1,1,1)).filter([.3,-.2,s2]).llf)
    r=ARIMA(y,order=(1,1,1),trend='t').filter([.1*scale,.3,-.2,s2]); print(ARIMA(y,order=(1,1,1),trend='t').param_names, r.llf, r.get_forecast(2).predicted_mean)
    rr=ARIMA(np.diff(y),order=(1,0,1)).filter([.1*scale,.3,-.2,s2]); print(rr.llf)
