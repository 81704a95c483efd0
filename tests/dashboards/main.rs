//! What `grafana/` promises: dashboards that follow the usual rules, alerts that somebody can act on, and no name of a metric
//! that the service does not export.
//!
//! Each rule is a function from a dashboard, or from the text of the rules, to what it complains of. So it is shown of every
//! one that it is silent about our files and notices when something is broken in them.
//!
//! Expressions are only skimmed here, for selectors and what stands around them: whether they are sound, and give anything, is
//! asked of Prometheus in `tests/prometheus.rs`. YAML is read by line, as far as our own few files need it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod alerts;
mod lint;
mod names;
mod parts;
