//! Who sends a request, and what becomes of open streams when that changes.

use std::net::IpAddr;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};
use sse_pool::{CloseReason, ConnectionId};

use super::problem::Problem;
use super::query::Query;
use super::{HttpConfig, HubService};
use crate::access::authentication::{ClientCertificate, Presented, Renewed};
use crate::access::{
    Authentication, AuthenticationError, Caller, CredentialKind, Limited, TooFast,
};
use crate::audit::{Cut, Fact};
use crate::clock;
use crate::dialect::Operation;
use crate::hub::Hub;

impl HubService {
    /// Ends the streams of credentials that were taken back in the files that the hub reads, and keeps keys at a URL fresh, once a
    /// second, until the task is dropped. The server does; who mounts the service may.
    pub async fn watch_credentials(&self) {
        let mut ticks = tokio::time::interval(std::time::Duration::from_secs(1));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let config = self.config();
            let authentication = &config.authentication;
            authentication.keep_keys_fresh(clock::now());
            self.renew_streams(authentication);
            if authentication.has_new_revoked_certificates() {
                let ended = self.hub.end_streams_of(|it| authentication.is_gone(it));
                tracing::info!(
                    streams_ended = ended,
                    "other client certificates are revoked"
                );
            }
            if let Some(change) = authentication.refresh(clock::now()) {
                let ended = self.hub.end_streams_of(|it| authentication.is_gone(it));
                tracing::info!(streams_ended = ended, "the file of tokens has changed");
                self.hub.audit().write(&Fact::TokensChanged {
                    added: change.added.iter().map(|id| Cut(id)).collect(),
                    revoked: change.revoked.iter().map(|id| Cut(id)).collect(),
                });
            }
        }
    }

    /// Asks the application again about streams whose lifetime is nearly over.
    fn renew_streams(&self, authentication: &Arc<Authentication>) {
        let hub = &self.hub;
        let is_open = |id: &ConnectionId| goes_by_application(hub, id);
        for due in authentication.due_renewals(is_open) {
            let (hub, authentication) = (self.hub.clone(), Arc::clone(authentication));
            tokio::spawn(async move {
                let (renewed, connections) = authentication.ask_again(&due).await;
                for id in connections {
                    // It may have been given another token's rights meanwhile.
                    if !goes_by_application(&hub, &id) {
                        continue;
                    }
                    let goes_on = match &renewed {
                        Renewed::Unknown => true,
                        Renewed::As(caller) => {
                            !hub.is_revoked(caller) && hub.renew(&id, caller).is_ok()
                        }
                        Renewed::Refused => false,
                    };
                    if !goes_on {
                        hub.end_connection(&id, CloseReason::Revoked);
                    }
                }
            });
        }
    }

    /// Writes down when credentials were used: at the end, and before the settings are read again.
    pub fn close_authentication(&self) {
        self.config().authentication.close();
    }

    /// What a request shows of its sender.
    pub(super) fn presented<'a>(
        &self,
        address: IpAddr,
        head: &'a Parts,
        cookies: Option<&'a HeaderValue>,
        query: &'a Query,
    ) -> Result<Presented<'a>, Problem> {
        let headers = &head.headers;
        let mut authorizations = headers.get_all(header::AUTHORIZATION).iter();
        let authorization = authorizations.next().map(|value| value.to_str());
        let authorization = match (authorization, authorizations.next()) {
            (None, _) => None,
            (Some(Ok(one)), None) => Some(one),
            _ => {
                return Err(Problem::unauthorized(
                    "the Authorization header is not one token",
                    Some("invalid_request"),
                ));
            }
        };
        Ok(Presented {
            address,
            authorization,
            cookies,
            ticket: query.get("ticket"),
            certificate: head.extensions.get::<ClientCertificate>(),
            origin: headers
                .get(header::ORIGIN)
                .and_then(|origin| origin.to_str().ok()),
            user_id: query.get("user_id"),
            session_id: query.get("session_id"),
            method: head.method.as_str(),
            target: head.uri.path_and_query().map_or("/", |it| it.as_str()),
            is_throttled: (authorization.is_some() || cookies.is_some())
                && self.hub.rates().is_exhausted(
                    Limited::FailedCredentials,
                    &Caller::anonymous(address),
                    clock::now(),
                ),
        })
    }

    /// Who sends a request.
    pub(super) async fn caller(
        &self,
        config: &HttpConfig,
        shown: Presented<'_>,
    ) -> Result<Caller, Problem> {
        let address = shown.address;
        let caller = match config.authentication.caller(shown).await {
            Ok(caller) => caller,
            Err(error @ AuthenticationError::Invalid(_)) => {
                let rates = self.hub.rates();
                let stranger = Caller::anonymous(address);
                // Whether or not that was too much: this one is told what is wrong.
                let _ = rates.take(Limited::FailedCredentials, &stranger, 1, clock::now());
                return Err(error.into());
            }
            Err(AuthenticationError::Throttled) => {
                self.check_failures(address)?;
                return Err(AuthenticationError::Throttled.into());
            }
            Err(error) => return Err(error.into()),
        };
        if self.hub.is_revoked(&caller) {
            return Err(AuthenticationError::Revoked.into());
        }
        Ok(caller)
    }

    /// Whether an address may show credentials that nobody knows yet.
    fn check_failures(&self, address: IpAddr) -> Result<(), TooFast> {
        let stranger = Caller::anonymous(address);
        let rates = self.hub.rates();
        rates.check(Limited::FailedCredentials, &stranger, 1, clock::now())
    }
}

/// Whether an open stream has its rights by what the application has said, for a time.
fn goes_by_application(hub: &Hub, id: &ConnectionId) -> bool {
    hub.caller_of(id).is_ok_and(|caller| {
        let credential = caller.credential();
        credential
            .is_some_and(|it| it.kind == CredentialKind::Application && it.expires_at.is_some())
    })
}

/// Whether the certificate of its connection shows who sends a request.
pub(super) fn goes_by_certificate(
    config: &HttpConfig,
    operation: Operation,
    head: &Parts,
    query: &Query,
) -> bool {
    config.authentication.takes_certificates()
        && head.extensions.get::<ClientCertificate>().is_some()
        && !operation.is_open()
        && !head.headers.contains_key(header::AUTHORIZATION)
        && query.get("ticket").is_none()
}

/// The cookies that show who sends a request. A ticket says that by itself, and nobody is asked for what is open to all.
pub(super) fn cookies(
    config: &HttpConfig,
    operation: Operation,
    headers: &HeaderMap,
    query: &Query,
) -> Option<HeaderValue> {
    if operation.is_open() || query.get("ticket").is_some() {
        return None;
    }
    config.authentication.cookies(headers)
}
