//! Logs to stderr (text or JSON), and spans over OTLP when an endpoint is given. Set up once per process, by `main`.

use clap::Args;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::{Deserialize, Serialize};
use tracing::{Level, Metadata};
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// The flags that every binary shares; flatten it into the component's arguments.
#[derive(Clone, Debug, Default, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Log format: text for people, json for collectors.
    #[arg(long, value_enum, env = "CORTEN_LOG_FORMAT", global = true)]
    pub log_format: Option<LogFormat>,
    /// Log filter, as in `info` or `info,corten_store=debug`.
    #[arg(long, env = "CORTEN_LOG", global = true)]
    pub log_level: Option<String>,
    /// OTLP gRPC endpoint for spans, as in `http://127.0.0.1:4317`. Nothing is exported without it.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", global = true)]
    pub otlp_endpoint: Option<String>,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter has a syntax fault.
    #[error("log filter {filter:?} is not valid: {reason}")]
    Filter {
        /// What was given.
        filter: String,
        /// Why it was refused.
        reason: String,
    },
    /// The exporter could not be built.
    #[error("cannot export spans to {endpoint}: {reason}")]
    Exporter {
        /// What was given.
        endpoint: String,
        /// Why it was refused.
        reason: String,
    },
    /// Logging had been set up before.
    #[error("logging is already set up: {0}")]
    Twice(String),
}

/// Flushes spans when dropped; keep it until the process ends.
#[must_use]
pub struct Guard(Option<SdkTracerProvider>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take() {
            // Nobody is left to report a failed last flush to.
            let _ = provider.shutdown();
        }
    }
}

/// Sets up logging (and span export) for this process. Call it inside a tokio runtime when an endpoint is set.
pub fn init(config: &TelemetryConfig, component: &'static str) -> Result<Guard, TelemetryError> {
    let filter_text = config
        .log_level
        .clone()
        .unwrap_or_else(|| "info".to_owned());
    let filter = EnvFilter::try_new(&filter_text).map_err(|error| TelemetryError::Filter {
        filter: filter_text,
        reason: error.to_string(),
    })?;
    let logs = match config.log_format.unwrap_or_default() {
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .with_filter(filter)
            .boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .json()
            .with_filter(filter)
            .boxed(),
    };
    let mut layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> = vec![logs];
    let provider = config
        .otlp_endpoint
        .as_deref()
        .map(|endpoint| exporter(endpoint, component))
        .transpose()?;
    if let Some(provider) = &provider {
        layers.push(
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer(component))
                .with_filter(FilterFn::new(is_exported).with_max_level_hint(Level::DEBUG))
                .boxed(),
        );
    }
    tracing_subscriber::registry()
        .with(layers)
        .try_init()
        .map_err(|error| TelemetryError::Twice(error.to_string()))?;
    Ok(Guard(provider))
}

/// Requests and runs, whatever the log filter says; and what is worth a warning within them. The exporter's own spans are
/// not among them: exporting must not make something to export.
fn is_exported(metadata: &Metadata<'_>) -> bool {
    if metadata.is_span() {
        return metadata.target() == crate::trace::TARGET;
    }
    *metadata.level() <= Level::WARN && metadata.target().starts_with("corten")
}

fn exporter(endpoint: &str, component: &'static str) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .map_err(|error| TelemetryError::Exporter {
            endpoint: endpoint.to_owned(),
            reason: error.to_string(),
        })?;
    let resource = opentelemetry_sdk::Resource::builder()
        .with_service_name(component)
        .build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build())
}
