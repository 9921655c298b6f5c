//! Settings, named as OpenTelemetry names them.

use clap::Args;

/// Where traces go.
#[derive(Args, Clone, Default)]
pub struct TraceConfig {
    /// Address of an OTLP/HTTP collector, such as http://localhost:4318; without it nothing is
    /// traced
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
    /// Headers for the collector, such as `authorization=Bearer …,x-team=a`
    #[arg(long, env = "OTEL_EXPORTER_OTLP_HEADERS", hide_env_values = true)]
    pub otlp_headers: Option<String>,
}
