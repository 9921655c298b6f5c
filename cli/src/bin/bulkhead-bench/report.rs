//! Rows, and the three forms they take: a table, Markdown, `bench.json`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::stats::Samples;

const HEADER: [&str; 8] = ["measured", "unit", "p50", "p95", "p99", "compared", "goal", ""];

/// One line of the table.
pub(crate) struct Row {
    name: String,
    unit: &'static str,
    samples: Samples,
    compared: Vec<(String, f64)>,
    goal: Option<(String, bool)>,
}

impl Row {
    /// Something measured, without a goal.
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, samples: Samples) -> Self {
        Self { name: name.into(), unit, samples, compared: Vec::new(), goal: None }
    }

    /// Adds its p50 as a multiple of another's.
    pub(crate) fn beside(mut self, name: &str, other: &Samples) -> Self {
        self.compared.push((format!("× {name}"), self.samples.p50() / other.p50()));
        self
    }

    /// Adds a number that says more about it.
    pub(crate) fn with(mut self, name: &str, number: f64) -> Self {
        self.compared.push((name.into(), number));
        self
    }

    /// Adds what it should be.
    pub(crate) fn goal(mut self, text: impl Into<String>, met: bool) -> Self {
        self.goal = Some((text.into(), met));
        self
    }

    fn cells(&self) -> Vec<String> {
        let number = |number: f64| match number.abs() {
            size if size >= 1000.0 => format!("{number:.0}"),
            size if size >= 10.0 => format!("{number:.1}"),
            _ => format!("{number:.2}"),
        };
        // A percentile of a few samples would only repeat the largest.
        let tail = |share, enough: usize| {
            if self.samples.len() >= enough {
                number(self.samples.percentile(share))
            } else {
                "".into()
            }
        };
        let compared = self.compared.iter().map(|(name, value)| {
            let value = number(*value);
            if name.starts_with('×') {
                format!("{value} {name}")
            } else {
                format!("{name} {value}")
            }
        });
        let (goal, verdict) = match &self.goal {
            Some((goal, met)) => (goal.clone(), if *met { "met" } else { "missed" }),
            None => (String::new(), ""),
        };
        vec![
            self.name.clone(),
            self.unit.into(),
            number(self.samples.p50()),
            tail(0.95, 5),
            tail(0.99, 20),
            compared.collect::<Vec<_>>().join(", "),
            goal,
            verdict.into(),
        ]
    }

    fn json(&self) -> Value {
        let mut document = self.samples.json();
        document["name"] = self.name.clone().into();
        document["unit"] = self.unit.into();
        for (name, number) in &self.compared {
            document["compared"][name.as_str()] = (*number).into();
        }
        if let Some((goal, met)) = &self.goal {
            document["goal"] = json!({ "text": goal, "met": met });
        }
        document
    }
}

/// Everything measured, and what could not be.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    failures: Vec<(String, String)>,
}

impl Report {
    /// Takes the rows of one measurement, or why there are none.
    pub(crate) fn take(&mut self, name: &str, outcome: anyhow::Result<Vec<Row>>) {
        match outcome {
            Ok(rows) => self.rows.extend(rows),
            Err(problem) => self.failures.push((name.into(), format!("{problem:#}"))),
        }
    }

    /// Names of what could not be measured.
    pub(crate) fn missing(&self) -> Vec<&str> {
        self.failures.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The table for a terminal.
    pub(crate) fn print(&self) -> anyhow::Result<()> {
        cli::console::print_table(&HEADER, &self.lines())?;
        Ok(())
    }

    /// The table for a README.
    pub(crate) fn markdown(&self, machine: &Value) -> String {
        let mut text = String::new();
        let mut line = |cells: &[String]| {
            let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        };
        line(&HEADER.map(str::to_owned));
        line(&HEADER.map(|_| "---".to_owned()));
        self.lines().iter().for_each(|cells| line(cells));
        let fact = |name: &str| match &machine[name] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let _ = writeln!(
            text,
            "\nMeasured on {}, {} cores, {} MiB, Linux {}, Docker {}, cgroup v{}, {} ({}). Of the \
             processors' time, {} % was stolen by the machine's host meanwhile.",
            fact("cpu"),
            fact("cores"),
            fact("memory_mib"),
            fact("kernel"),
            fact("docker"),
            fact("cgroup"),
            fact("date"),
            fact("commit"),
            fact("stolen_percent"),
        );
        text
    }

    /// The document for programs.
    pub(crate) fn json(&self, machine: &Value, quick: bool) -> Value {
        let rows: Vec<_> = self.rows.iter().map(Row::json).collect();
        let failure = |(name, why): &(String, String)| json!({ "name": name, "why": why });
        let failures: Vec<_> = self.failures.iter().map(failure).collect();
        json!({ "machine": machine, "quick": quick, "rows": rows, "not_measured": failures })
    }

    fn lines(&self) -> Vec<Vec<String>> {
        let mut lines: Vec<_> = self.rows.iter().map(Row::cells).collect();
        lines.extend(self.failures.iter().map(|(name, why)| {
            let mut line = vec![String::new(); HEADER.len()];
            line[0] = name.clone();
            line[5] = format!("not measured: {}", why.lines().next().unwrap_or_default());
            line
        }));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_goal_and_a_missing_row_are_told_apart() {
        let samples = Samples::new([2.0, 4.0, 6.0, 8.0, 10.0]);
        let row = Row::new("a|b", "ms", samples.clone()).beside("docker", &samples);
        let mut report = Report::default();
        report.take("first", Ok(vec![row.goal("≤ 1", false)]));
        report.take("second", Err(anyhow::anyhow!("no pool")));
        assert_eq!(report.missing(), ["second"]);
        let text = report.markdown(&json!({}));
        assert!(text.contains("| a\\|b | ms | 6.00 | 10.0 |  | 1.00 × docker | ≤ 1 | missed |"));
        assert!(text.contains("not measured: no pool"), "{text}");
        assert_eq!(report.json(&json!({}), true)["rows"][0]["goal"]["met"], false);
    }
}
