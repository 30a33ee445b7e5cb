//! Everything that can be set: the sections together.

use clap::Args;

use super::{
    AuthenticationSettings, CompressionSettings, HealthSettings, HttpSettings, LimitSettings,
    LogSettings, MemorySettings, ProxySettings, RateSettings, RetentionSettings, ServerSettings,
    StorageSettings, StreamSettings, TlsSettings,
};

/// Every setting, as it was given; what was not given is `None`.
///
/// A flag wins over an environment variable, that over the file, the file over the default.
#[derive(Clone, Debug, Default, Args)]
pub struct Settings {
    /// Where to listen, and how to stop.
    #[command(flatten)]
    pub server: ServerSettings,
    /// HTTPS.
    #[command(flatten)]
    pub tls: TlsSettings,
    /// Where events are kept.
    #[command(flatten)]
    pub storage: StorageSettings,
    /// Who may ask, and how much.
    #[command(flatten)]
    pub http: HttpSettings,
    /// How callers show who they are.
    #[command(flatten)]
    pub authentication: AuthenticationSettings,
    /// Whose word counts for an address.
    #[command(flatten)]
    pub proxies: ProxySettings,
    /// The log on standard error.
    #[command(flatten)]
    pub log: LogSettings,
    /// How much memory is used.
    #[command(flatten)]
    pub memory: MemorySettings,
    /// What the hub takes.
    #[command(flatten)]
    pub limits: LimitSettings,
    /// How fast one caller may be.
    #[command(flatten)]
    pub rates: RateSettings,
    /// How streams are kept alive and ended.
    #[command(flatten)]
    pub streams: StreamSettings,
    /// What is compressed.
    #[command(flatten)]
    pub compression: CompressionSettings,
    /// How long events are kept.
    #[command(flatten)]
    pub retention: RetentionSettings,
    /// From when on the hub is unwell or not ready.
    #[command(flatten)]
    pub health: HealthSettings,
}

/// Each field of one section, or where it says nothing the other's. A field that is left out does not compile.
macro_rules! or_fields {
    ($section:ident, $other:ident: $($field:ident),* $(,)?) => {
        Self { $($field: $section.$field.or($other.$field)),* }
    };
}
pub(super) use or_fields;

impl Settings {
    /// These settings, and where they say nothing the `other` ones.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        or_fields!(self, other:
            server, tls, storage, http, authentication, proxies, log, memory, limits, rates, streams, compression, retention, health,
        )
    }
}
