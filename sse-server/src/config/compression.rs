//! What is compressed, and how hard.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use sse_compress::Level;

use super::ConfigError;
use super::settings::or_fields;
use crate::hub::HubConfig;
use crate::topic_pattern::Pattern;
use crate::units::Size;

/// The settings of compression, as they were given.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Streams")]
#[allow(
    missing_docs,
    reason = "the help texts are the documentation, said once"
)]
pub struct CompressionSettings {
    /// Smallest event data that is compressed for readers that ask for compressed messages [default: 1KiB]
    #[arg(long, env = "SSE_COMPRESSION_THRESHOLD", value_name = "SIZE")]
    pub compression_threshold: Option<Size>,
    /// Effort of that compression: fast, balanced or best [default: balanced]
    #[arg(
        long,
        env = "SSE_COMPRESSION_LEVEL",
        value_name = "LEVEL",
        ignore_case = true
    )]
    pub compression_level: Option<LevelSetting>,
    /// Memory for compressing streams (Content-Encoding: gzip), about half a MiB for each set of subscriptions that readers
    /// have in common; beyond it streams are not compressed; 0 for never; it is taken off --memory [default: 32MiB, and
    /// no more than 3/32 of --memory]
    #[arg(long, env = "SSE_STREAM_COMPRESSION", value_name = "SIZE")]
    pub stream_compression: Option<Size>,
    /// Topics (names or patterns) whose events are never compressed together with others; repeatable
    #[arg(
        long,
        env = "SSE_NEVER_COMPRESS",
        value_name = "TOPIC",
        value_delimiter = ',',
        value_parser = topic_pattern
    )]
    pub never_compress: Option<Vec<Arc<Pattern>>>,
}

/// Effort of compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum LevelSetting {
    Fast,
    Balanced,
    Best,
}

impl CompressionSettings {
    pub(super) fn or(self, other: Self) -> Self {
        or_fields!(self, other:
            compression_threshold, compression_level, stream_compression, never_compress,
        )
    }

    pub(super) fn build(self, hub: HubConfig) -> Result<HubConfig, ConfigError> {
        Ok(HubConfig {
            compression_threshold_bytes: self
                .compression_threshold
                .map_or(hub.compression_threshold_bytes, Size::to_usize),
            compression_level: match self.compression_level {
                Some(LevelSetting::Fast) => Level::Fast,
                Some(LevelSetting::Best) => Level::Best,
                Some(LevelSetting::Balanced) | None => Level::Balanced,
            },
            stream_compression_bytes: self
                .stream_compression
                .map_or(hub.stream_compression_bytes, Size::to_usize),
            never_compress: self.never_compress.unwrap_or_default(),
            ..hub
        })
    }
}

fn topic_pattern(given: &str) -> Result<Arc<Pattern>, String> {
    let text = given.trim();
    if text.is_empty() {
        return Err(format!(
            "{given:?} is empty; write a topic or a pattern, for example secret/*"
        ));
    }
    Pattern::new(text)
        .map(Arc::new)
        .map_err(|error| format!("{given:?} is {error}"))
}
