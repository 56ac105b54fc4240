//! `predict` by the real program: the fixed contract, bad input, pictures.

use nightshift_testkit::Home;
use serde_json::Value;

const PROGRAM: &str = "synergy-weights";

fn home() -> Home {
    let home = Home::new();
    let wave = |t: i32| format!("{:.4}", f64::from(t * 37 % 19) / 19.0 + 0.02 * f64::from(t));
    let mut lines: Vec<String> = (0..60).map(wave).collect();
    lines[20] = String::new();
    home.write("series.csv", &(lines.join("\n") + "\n"));
    home
}

fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn a_series_gets_order_likelihood_forecast_and_interval() {
    let home = home();
    let ran = home
        .run(PROGRAM, &["predict", "--series", "series.csv", "--horizon", "4", "--json"])
        .expect(0)
        .json();
    let order = numbers(&ran["order"]);
    assert!(order.len() == 3 && order[1] <= 1.0, "{ran}");
    assert!(ran["loglik"].as_f64().unwrap().is_finite() && ran["seconds"].as_f64().unwrap() < 5.0);
    let [mean, low, high] = ["forecast", "lower", "upper"].map(|key| numbers(&ran[key]));
    assert_eq!((mean.len(), low.len(), high.len()), (4, 4, 4));
    assert!((0..4).all(|h| low[h] < mean[h] && mean[h] < high[h]));
    assert_eq!((ran["observed"].as_u64(), ran["missing"].as_u64()), (Some(59), Some(1)));
    let text = home.run(PROGRAM, &["predict", "--series", "series.csv"]).expect(0);
    assert!(text.stdout.contains("ARIMA(") && text.stdout.contains("95 % in"), "{}", text.stdout);
}

#[test]
fn known_parameters_are_evaluated_and_not_fitted() {
    let home = home();
    home.write("series.csv", "1\n2\n\n4\n");
    home.write("params.json", r#"{"const": 2.0, "ar": [0.5], "ma": [], "sigma2": 1.0}"#);
    let arguments = [
        "predict",
        "--series",
        "series.csv",
        "--order",
        "1,0,0",
        "--params",
        "params.json",
        "--horizon",
        "2",
        "--json",
    ];
    let ran = home.run(PROGRAM, &arguments).expect(0).json();
    // By hand: variance of the process 4/3; innovations -1, 0.5, and 2 over a gap with variance 1.25.
    let ln = |x: f64| x.ln();
    let tau = 2.0 * std::f64::consts::PI;
    let want = -0.5 * (3.0 * ln(tau) + ln(4.0 / 3.0) + 0.75 + 0.25 + ln(1.25) + 4.0 / 1.25);
    assert!((ran["loglik"].as_f64().unwrap() - want).abs() < 1e-12, "{ran} {want}");
    assert_eq!(numbers(&ran["forecast"]), [3.0, 2.5]);
    let half = 1.959963984540054 * 1.25_f64.sqrt();
    assert!((numbers(&ran["upper"])[1] - 2.5 - half).abs() < 1e-12);
    assert_eq!(ran["rule"], "known parameters");
    for (text, hint) in [
        ("{\"ar\": [1.5], \"sigma2\": 1}", "stationary"),
        ("{\"ar\": [0.5]}", "sigma2"),
        ("[", "params.json"),
        ("{\"ar\": [0.1, 0.1], \"sigma2\": 1}", "lengths differ"),
        ("{\"ar\": [0.5], \"sigma2\": -1}", "above 0"),
        ("{\"ar\": [0.5], \"sigma2\": 1, \"mean\": 3}", "mean"),
    ] {
        home.write("params.json", text);
        let refused = home.run(PROGRAM, &arguments).expect(4);
        assert!(
            refused.stderr.contains(hint) && refused.stderr.contains("params.json"),
            "{text}: {}",
            refused.stderr
        );
    }
}

#[test]
fn bad_input_names_file_and_line() {
    let home = home();
    let run = |text: &str, code: i32| {
        home.write("bad.csv", text);
        home.run(PROGRAM, &["predict", "--series", "bad.csv", "--json"]).expect(code)
    };
    for (text, line) in [
        ("1\n2\nx\n", "bad.csv:3"),
        ("1\n2,3\n", "bad.csv:2"),
        ("inf\n1\n", "bad.csv:1"),
        ("1\n1e999\n", "bad.csv:2"),
    ] {
        let refused = run(text, 4);
        assert!(refused.stderr.contains(line), "{text}: {}", refused.stderr);
    }
    for text in ["", "\n\n\n", "roi\n", "NaN\nNA\n"] {
        assert!(run(text, 3).stderr.contains("no value"), "{text:?}");
    }
    assert_eq!(run("\u{feff}roi\r\n1\r\n2\r\n", 0).json()["observed"], 2);
    home.run(PROGRAM, &["predict", "--series", "absent.csv"]).expect(1);
    for wrong in [
        ["--order", "1,2,1"],
        ["--order", "1,1"],
        ["--horizon", "0"],
        ["--level", "1"],
        ["--plot-out", "a.gif"],
    ] {
        home.run(PROGRAM, &["predict", "--series", "series.csv", wrong[0], wrong[1]]).expect(2);
    }
}

#[test]
fn odd_series_are_always_answered() {
    let home = home();
    for (text, order) in [
        ("5\n", [0, 0, 0]),
        ("5\n6\n", [0, 1, 0]),
        ("5\n5\n5\n5\n", [0, 0, 0]),
        ("1e9\n3e9\n2e9\n", [0, 1, 0]),
    ] {
        home.write("odd.csv", text);
        let ran = home
            .run(PROGRAM, &["predict", "--series", "odd.csv", "--horizon", "3", "--json"])
            .expect(0)
            .json();
        assert_eq!(ran["order"], serde_json::json!(order), "{text:?}");
        for key in ["forecast", "lower", "upper"] {
            assert!(numbers(&ran[key]).iter().all(|x| x.is_finite()), "{text:?} {ran}");
        }
    }
}

#[test]
fn the_environment_chooses_the_method_and_the_flag_wins() {
    let mut home = home();
    let rule = |home: &Home, extra: &[&str]| {
        let arguments = [&["predict", "--series", "series.csv", "--json"], extra].concat();
        home.run(PROGRAM, &arguments).expect(0).json()["rule"].as_str().unwrap().to_owned()
    };
    assert_eq!(rule(&home, &[]), "aicc");
    home.set("SYNERGY_FORECAST_METHOD", "ema");
    assert_eq!(rule(&home, &[]), "ema");
    assert_eq!(rule(&home, &["--method", "legacy"]), "legacy ema");
    home.set("SYNERGY_FORECAST_METHOD", "crystal ball");
    let refused = home.run(PROGRAM, &["predict", "--series", "series.csv"]).expect(9);
    assert!(refused.stderr.contains("SYNERGY_FORECAST_METHOD"), "{}", refused.stderr);
}

#[test]
fn pictures_are_drawn_where_they_are_asked_for() {
    let home = home();
    let ran = home.run(PROGRAM, &["predict", "--series", "series.csv", "--horizon", "5", "--plot"]).expect(0);
    assert!(ran.stdout.contains(" | ") && ran.stdout.contains("series.forecast.svg"), "{}", ran.stdout);
    let svg = home.read("series.forecast.svg");
    assert!(svg.contains("<polygon") && svg.contains("95 % interval") && !svg.contains("NaN"));
    home.run(PROGRAM, &["predict", "--series", "series.csv", "--plot-out", "out.png", "--quiet"]).expect(0);
    let png = std::fs::read(home.path().join("out.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG") && png.len() > 10_000, "{}", png.len());
    home.run(PROGRAM, &["predict", "--series", "series.csv", "--plot-out", "dry.png", "--dry-run"]).expect(0);
    assert!(!home.path().join("dry.png").exists());
}

#[test]
fn a_history_gives_one_forecast_a_metric() {
    let mut home = home();
    let row = |t: i32| match t {
        3 => r#"{"synergy_roi": "soon", "synergy_efficiency": 0.5}"#.to_owned(),
        _ => format!(
            r#"{{"synergy_roi": {}, "synergy_efficiency": 0.5, "note": "text"}}"#,
            f64::from(t * 7 % 5) / 10.0
        ),
    };
    let rows = |n: i32| format!("[{}, 17]", (0..n).map(row).collect::<Vec<_>>().join(", "));
    home.write("h.json", &rows(13));
    let all = ["predict", "--history", "h.json", "--horizon", "2", "--json"];
    let ran = home.run(PROGRAM, &all).expect(0).json();
    let metrics = ran["metrics"].as_object().unwrap();
    assert_eq!(metrics.keys().collect::<Vec<_>>(), ["synergy_efficiency", "synergy_roi"]);
    let roi = &metrics["synergy_roi"];
    assert_eq!(
        (roi["observed"].as_u64(), roi["missing"].as_u64()),
        (Some(12), Some(2)),
        "text and a row of no object"
    );
    assert_eq!((roi["rule"].as_str(), numbers(&roi["order"])), (Some("ema"), vec![0.0, 1.0, 1.0]));
    assert_eq!(numbers(&metrics["synergy_efficiency"]["forecast"]), [0.5, 0.5]);
    let one = ["predict", "--history", "h.json", "--metric", "roi", "--json"];
    assert_eq!(home.run(PROGRAM, &one).expect(0).json()["name"], "synergy_roi");
    let unknown = home.run(PROGRAM, &["predict", "--history", "h.json", "--metric", "luck"]).expect(3);
    assert!(unknown.stderr.contains("synergy_efficiency, synergy_roi"), "{}", unknown.stderr);
    home.set("SANDBOX_SYNERGY_MODEL", "arima");
    assert_eq!(home.run(PROGRAM, &one).expect(0).json()["rule"], "short series");
    home.write("h.json", &rows(11));
    assert_eq!(home.run(PROGRAM, &one).expect(0).json()["rule"], "ema", "ten values are not enough history");
    home.run(PROGRAM, &[&all[..], &["--plot-out", "all.svg"]].concat()).expect(0);
    assert_eq!(home.read("all.svg").matches("<polygon").count(), 2, "one panel a metric");
}
