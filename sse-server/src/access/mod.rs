//! Who asks, from where, what they may have, and how much is held for them.
//!
//! A [`Caller`] is made once for every request, before any handler. Its [`Visibility`](sse_pool::Visibility) is the one
//! rule that says whether it may have a record; `visibility` shows that rule the records of the log. `authentication` finds out
//! who it is, `grants` say what it may do. Rights come in here and nowhere else. Its address is its socket's, or what a proxy tells
//! that is trusted (`proxies`, `forwarded`, `proxy_protocol`). By that address `budget` divides the memory that is held for clients,
//! and `places` and `sockets` how many requests and sockets there may be at once. `rates` say how fast one caller may connect and
//! publish, and `user_places` how many connections one user may have.

pub mod authentication;
pub mod budget;
mod caller;
mod forwarded;
mod grants;
mod places;
mod proxies;
pub mod proxy_protocol;
mod rates;
mod refusals;
mod sockets;
mod user_places;
pub(crate) mod visibility;

pub use authentication::{Authentication, AuthenticationError};
pub use caller::{Caller, Credential, CredentialKind, InvalidIdentity};
pub(crate) use forwarded::hosts as forwarded_hosts;
pub use forwarded::{Syntax, client_address};
pub use grants::{Forbidden, Grants, InvalidGrants};
pub use places::{NoPlace, Place, PlaceLimits, PlaceStatus, Places};
pub(crate) use proxies::UntrustedProxyWarning;
pub use proxies::{
    InvalidProxyHeaderName, InvalidTrustedProxy, Peer, ProxyHeader, TrustedProxies, TrustedProxy,
};
pub use rates::{InvalidRate, Limited, Rate, RateLimits, Rates, TooFast};
pub(crate) use sockets::StreamingSocket;
pub use sockets::{Busy, SocketPlace, SocketStatus, Sockets};
pub use user_places::TooManyOfUser;
pub(crate) use user_places::{UserPlace, UserPlaces};
