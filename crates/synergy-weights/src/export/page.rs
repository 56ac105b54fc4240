//! A page of metrics, in the form that a scraper asks for.
//!
//! Prometheus 3 refuses an answer without a content type that it knows. The text format 0.0.4 is what everybody
//! reads; OpenMetrics is answered where it is preferred by `Accept`.

use std::fmt::Write;

/// The form of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Prometheus text format 0.0.4.
    Text,
    /// OpenMetrics of this version.
    OpenMetrics(&'static str),
}

impl Form {
    /// What an `Accept` header prefers (RFC 9110, section 12.5.1); text when it prefers nothing we have.
    pub(crate) fn accepted(header: &str) -> Self {
        let mut best = (0.0, Self::Text);
        for range in header.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut version) = (1.0, None);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => quality = value.trim().parse().unwrap_or(0.0),
                    "version" => version = Some(value.trim().trim_matches('"').to_owned()),
                    _ => {}
                }
            }
            let form = match (kind.as_str(), version.as_deref()) {
                ("application/openmetrics-text", None | Some("1.0.0")) => Self::OpenMetrics("1.0.0"),
                ("application/openmetrics-text", Some("0.0.1")) => Self::OpenMetrics("0.0.1"),
                ("text/plain" | "text/*" | "*/*", _) => Self::Text,
                _ => continue,
            };
            if quality > best.0 {
                best = (quality, form);
            }
        }
        best.1
    }

    /// The content type of the answer.
    pub(crate) fn content_type(self) -> String {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8".into(),
            Self::OpenMetrics(version) => {
                format!("application/openmetrics-text; version={version}; charset=utf-8")
            }
        }
    }
}

/// A metric with its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    /// Its name; one that ends in `_total` is a counter.
    pub(crate) name: String,
    /// Its help line.
    pub(crate) help: String,
    /// Its value.
    pub(crate) value: f64,
}

/// A sample.
pub(crate) fn sample(name: &str, help: &str, value: f64) -> Sample {
    Sample { name: name.to_owned(), help: help.to_owned(), value }
}

/// The whole page.
pub(crate) fn render(samples: &[Sample], form: Form) -> String {
    let mut page = String::with_capacity(samples.len() * 160);
    for Sample { name, help, value } in samples {
        let base = name.strip_suffix("_total");
        let kind = if base.is_some() { "counter" } else { "gauge" };
        // OpenMetrics names the family of a counter without the suffix of its sample.
        let family = base.filter(|_| form != Form::Text).unwrap_or(name);
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let help = if form == Form::Text { help } else { help.replace('"', "\\\"") };
        let _ = writeln!(page, "# HELP {family} {help}\n# TYPE {family} {kind}\n{name} {value}");
    }
    if form != Form::Text {
        page.push_str("# EOF\n");
    }
    page
}

/// A name as Prometheus takes it: letters, digits and `_`, no digit first.
pub(crate) fn metric_name(key: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    let name: String = key.chars().map(allowed).collect();
    if name.starts_with(|first: char| first.is_ascii_digit()) || name.is_empty() {
        format!("_{name}")
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_scrapers_ask_for() {
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let prometheus_2 =
            "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,\
            text/plain;version=0.0.4;q=0.3";
        for (header, form) in [
            (prometheus_3, Form::OpenMetrics("1.0.0")),
            (prometheus_2, Form::OpenMetrics("0.0.1")),
            (protobuf, Form::Text),
            ("", Form::Text),
            ("*/*", Form::Text),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Form::Text),
            ("application/openmetrics-text; version=2.0.0", Form::Text),
            ("Application/OpenMetrics-Text", Form::OpenMetrics("1.0.0")),
            ("application/openmetrics-text;q=0,text/plain;q=0.1", Form::Text),
        ] {
            assert_eq!(Form::accepted(header), form, "{header}");
        }
    }

    #[test]
    fn both_forms_of_a_counter() {
        let samples = [sample("a_total", "All \"a\"\nso far", 3.0), sample("b", "b", -0.5)];
        assert_eq!(
            render(&samples, Form::Text),
            "# HELP a_total All \"a\"\\nso far\n# TYPE a_total counter\na_total 3\n\
             # HELP b b\n# TYPE b gauge\nb -0.5\n"
        );
        assert_eq!(
            render(&samples, Form::OpenMetrics("1.0.0")),
            "# HELP a All \\\"a\\\"\\nso far\n# TYPE a counter\na_total 3\n\
             # HELP b b\n# TYPE b gauge\nb -0.5\n# EOF\n"
        );
        assert_eq!(
            (metric_name("synergy-roi/x"), metric_name("9a"), metric_name("ü")),
            ("synergy_roi_x".into(), "_9a".into(), "_".into())
        );
    }
}
