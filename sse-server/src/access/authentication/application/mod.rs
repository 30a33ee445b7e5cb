//! The application decides: it is asked who sends a request, with what the request shows.
//!
//! ```text
//!   request ──▶ what decides (`Authorization`, named cookies, address) ──▶ keyed hash
//!                 │ known                │ being asked               │ neither
//!                 ▼                      ▼                           ▼
//!               the answer kept       wait for that answer        ask (`client`), keep (`answers`)
//! ```
//!
//! Whatever is not a clear answer lets nobody in: the caller gets 503 and may try again.

mod answer;
mod answers;
mod cookies;
mod renewals;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use sse_broker::UnixMillis;
use sse_pool::ConnectionId;
use tokio::sync::{Semaphore, watch};
use url::Url;

use super::AuthenticationError;
use super::client::Client;
use crate::access::budget::{Account, Budget};
use crate::clock;
pub(super) use answer::Outcome;
pub(super) use answer::{Answer, Told};
use answers::{Answers, Key, Lookup};
pub use cookies::{CookieName, InvalidCookieName};
use renewals::Renewals;

/// How the application is asked.
#[derive(Clone, Debug)]
pub struct ApplicationConfig {
    /// Where.
    pub url: Url,
    /// The cookies that it is shown. Others are never sent.
    pub cookies: Vec<CookieName>,
    /// How long an answer may take, the wait for a free place among those that are asked at once included.
    pub timeout: Duration,
    /// How long an answer is kept at most.
    pub max_kept: Duration,
}

impl ApplicationConfig {
    /// The application at this URL, with no cookies and the defaults.
    #[must_use]
    pub fn new(url: Url) -> Self {
        Self {
            url,
            cookies: Vec::new(),
            timeout: DEFAULT_TIMEOUT,
            max_kept: DEFAULT_MAX_KEPT,
        }
    }
}

/// An application that cannot be asked as it was said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidApplication(pub(super) String);

/// An application that is asked who sends a request. Cloning it is cheap; clones share what is kept.
#[derive(Clone, Debug)]
pub struct Application(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    cookies: Vec<CookieName>,
    timeout: Duration,
    max_kept: Duration,
    client: Client,
    /// Nobody outside can say what is kept at which place.
    key: hmac::Key,
    answers: Mutex<Answers>,
    renewals: Mutex<Renewals>,
    /// How many more may be asked at once.
    places: Semaphore,
    /// Whether the last answer was none, so that the log tells a change once.
    is_failing: AtomicBool,
}

/// What the application is asked with.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// The caller's.
    pub(super) authorization: Option<HeaderValue>,
    /// Those of the caller's cookies that are named in the configuration.
    pub(super) cookies: Option<HeaderValue>,
    /// The caller's.
    pub(super) address: IpAddr,
    /// What was asked of the hub.
    pub(super) method: HeaderValue,
    pub(super) target: HeaderValue,
}

impl Application {
    /// An application that is asked like this.
    ///
    /// # Errors
    ///
    /// When the URL is not one that can be asked, or its certificates could not be verified here.
    pub fn new(config: ApplicationConfig) -> Result<Self, InvalidApplication> {
        let secret =
            clock::secret::<32>().map_err(|error| InvalidApplication(error.to_string()))?;
        Ok(Self(Arc::new(Shared {
            client: Client::new(&config.url)?,
            cookies: config.cookies,
            timeout: config.timeout,
            max_kept: config.max_kept,
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            answers: Mutex::default(),
            renewals: Mutex::default(),
            places: Semaphore::new(MAX_ASKED_AT_ONCE),
            is_failing: AtomicBool::new(false),
        })))
    }

    /// Whether there are cookies that show who a caller is.
    pub(super) fn takes_cookies(&self) -> bool {
        !self.0.cookies.is_empty()
    }

    /// Those of a request's cookies that the application is shown, as one header.
    pub(super) fn cookies(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        cookies::named(&self.0.cookies, headers)
    }

    /// Who sends a request.
    ///
    /// # Errors
    ///
    /// As the application says; [`AuthenticationError::Unavailable`] when it says nothing that is clear.
    ///
    /// # Cancel safety
    ///
    /// Whoever stops waiting ends nothing: the application is asked to the end, and others get the answer.
    pub(super) async fn ask(
        &self,
        question: Question,
        is_throttled: bool,
    ) -> Result<Arc<Told>, AuthenticationError> {
        let key = self.0.key_of(&question);
        if is_throttled && !self.0.answers.lock().is_known(&key, clock::now()) {
            return Err(AuthenticationError::Throttled);
        }
        let (lookup, dropped) = self.0.answers.lock().look_up(key, clock::now());
        drop(dropped);
        let mut answer = match lookup {
            Lookup::Known(outcome) => return outcome.into_result(),
            Lookup::Asked(answer) => answer,
            Lookup::Full => return Outcome::Unavailable.into_result(),
            Lookup::New(sender, answer) => {
                let shared = Arc::clone(&self.0);
                tokio::spawn(async move { shared.ask(key, question, &sender).await });
                answer
            }
        };
        let outcome = match answer.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        };
        outcome.unwrap_or(Outcome::Unavailable).into_result()
    }
}

/// What a caller has shown, for asking again.
#[derive(Clone, Debug)]
pub(crate) struct Renewable {
    question: Question,
    expires_at: UnixMillis,
}

/// What is to be asked again now.
#[derive(Debug)]
pub(crate) struct DueRenewal {
    key: Key,
    question: Question,
}

impl DueRenewal {
    /// Where the caller is.
    pub(crate) fn address(&self) -> IpAddr {
        self.question.address
    }
}

impl Renewable {
    pub(super) fn new(question: Question, expires_at: UnixMillis) -> Self {
        Self {
            question,
            expires_at,
        }
    }

    /// What it takes in memory.
    fn bytes(&self) -> usize {
        let question = &self.question;
        let shown = [&question.authorization, &question.cookies];
        let shown = shown.into_iter().flatten().chain([&question.target]);
        RENEWAL_BYTES + shown.map(HeaderValue::len).sum::<usize>()
    }
}

impl Application {
    /// Asks about the caller of this stream again before its lifetime ends, if there is memory to remember what it has shown.
    pub(super) fn keep_renewed(&self, renewable: &Renewable, id: ConnectionId, budget: &Budget) {
        let question = &renewable.question;
        let key = self.0.key_of(question);
        let permit = || {
            let permit = budget.try_take(Account::Connections, question.address, renewable.bytes());
            Some((question.clone(), permit.ok()?))
        };
        let now = clock::unix_millis();
        let mut renewals = self.0.renewals.lock();
        renewals.add(key, id, renewable.expires_at, now, permit);
    }

    /// What is to be asked again now.
    pub(super) fn due_renewals(&self, is_open: impl Fn(&ConnectionId) -> bool) -> Vec<DueRenewal> {
        let now = clock::unix_millis();
        // Thousands may be open: they are looked at while nobody waits for the lock.
        let mut looked_at = self.0.renewals.lock().take_look(now);
        looked_at.retain(|id| !is_open(id));
        let ended = looked_at.into_iter().collect();
        let mut renewals = self.0.renewals.lock();
        renewals.leave_out(&ended);
        let due = renewals.take_due(now, is_open);
        drop(renewals);
        let due = due.into_iter();
        due.map(|(key, question)| DueRenewal { key, question })
            .collect()
    }

    /// Asks again, and what that came to is kept for new streams too.
    pub(super) async fn ask_again(&self, due: &DueRenewal) -> Outcome {
        let (answer, _) = watch::channel(None);
        self.0.ask(due.key, due.question.clone(), &answer).await;
        let outcome = answer.borrow().clone();
        outcome.unwrap_or(Outcome::Unavailable)
    }

    /// The streams that were meant.
    pub(super) fn renewed_connections(&self, due: &DueRenewal) -> Vec<ConnectionId> {
        self.0.renewals.lock().connections(&due.key)
    }

    /// When they are to be asked about next: before their new lifetime ends, or, without an answer, soon.
    pub(super) fn renewed(&self, due: &DueRenewal, expires_at: Option<UnixMillis>) {
        let now = clock::unix_millis();
        self.0.renewals.lock().asked(&due.key, expires_at, now);
    }

    /// They are not asked about any more.
    pub(super) fn not_renewed(&self, due: &DueRenewal) {
        self.0.renewals.lock().forget(&due.key);
    }

    /// Lets everyone be asked about anew.
    pub(super) fn forget_answers(&self) {
        let forgotten = self.0.answers.lock().forget();
        drop(forgotten);
    }

    /// Goes on asking about the streams of another.
    pub(super) fn take_over(&self, other: &Self) {
        let mut taken = std::mem::take(&mut *other.0.renewals.lock());
        self.0.renewals.lock().take_over(&mut taken);
    }
}

/// What is kept of a client beside what it has shown.
const RENEWAL_BYTES: usize = 512;

impl Shared {
    /// Asks, keeps the answer, and gives it to all who wait.
    async fn ask(&self, key: Key, question: Question, waiting: &watch::Sender<Option<Outcome>>) {
        let asked_at = clock::unix_millis();
        let answer = tokio::time::timeout(self.timeout, async {
            let _place = self.places.acquire().await;
            self.client.ask(question).await
        });
        let answer = match answer.await {
            Ok(answer) => answer.and_then(|answer| answer.read(asked_at)),
            Err(_) => Err(format!("no answer within {:?}", self.timeout)),
        };
        self.log_change(answer.as_ref().err());
        let outcome = answer.unwrap_or(Outcome::Unavailable);
        let kept_until = self.kept_until(&outcome, clock::now());
        let dropped = self
            .answers
            .lock()
            .answered(key, outcome.clone(), kept_until);
        drop(dropped);
        waiting.send_replace(Some(outcome));
    }

    /// Until when an answer is kept; `None` for one that is not.
    fn kept_until(&self, outcome: &Outcome, now: Instant) -> Option<Instant> {
        let lifetime = match outcome {
            Outcome::Told(told) => told.expires_in.unwrap_or(Duration::MAX),
            Outcome::Unauthenticated | Outcome::Forbidden => MAX_REFUSAL_KEPT,
            Outcome::Unavailable => return None,
        };
        let lifetime = lifetime.min(self.max_kept);
        (!lifetime.is_zero()).then(|| now + lifetime)
    }

    /// Each part with its length, so that no two questions are one text.
    fn key_of(&self, question: &Question) -> Key {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [&question.authorization, &question.cookies] {
            let length = part.as_ref().map_or(u64::MAX, |part| part.len() as u64);
            context.update(&length.to_be_bytes());
            context.update(part.as_ref().map_or(&[], HeaderValue::as_bytes));
        }
        match question.address {
            IpAddr::V4(address) => context.update(&address.octets()),
            IpAddr::V6(address) => context.update(&address.octets()),
        }
        let mut key = Key::default();
        key.copy_from_slice(context.sign().as_ref());
        key
    }

    fn log_change(&self, failure: Option<&String>) {
        let was_failing = self.is_failing.swap(failure.is_some(), Ordering::Relaxed);
        match (failure, was_failing) {
            (Some(reason), false) => {
                tracing::error!(%reason, "the application does not say who callers are; they get 503");
            }
            (None, true) => tracing::info!("the application says again who callers are"),
            _ => {}
        }
    }
}

/// How long an answer may take when nobody says.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer is kept when nobody says.
pub const DEFAULT_MAX_KEPT: Duration = Duration::from_secs(60);
/// How long a refusal is kept at most: whoever logs in is not refused for long. A stated guess.
const MAX_REFUSAL_KEPT: Duration = Duration::from_secs(5);
/// So many requests are made to the application at once. A stated guess: what a small application answers in time.
const MAX_ASKED_AT_ONCE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question {
        Question {
            authorization: Some(HeaderValue::from_static("Bearer a")),
            cookies: Some(HeaderValue::from_static("sid=b")),
            address: [127, 0, 0, 1].into(),
            method: HeaderValue::from_static("GET"),
            target: HeaderValue::from_static("/events"),
        }
    }

    #[test]
    fn all_that_decides_is_in_the_key_and_the_key_is_secret() {
        let url: Url = "http://127.0.0.1:1/".parse().unwrap();
        let new = || Application::new(ApplicationConfig::new(url.clone())).unwrap();
        let application = new();
        let key = |question: &Question| application.0.key_of(question);
        let text = |text: &'static str| Some(HeaderValue::from_static(text));
        let same = Question {
            target: HeaderValue::from_static("/events/poll"),
            ..question()
        };
        assert_eq!(key(&question()), key(&same));
        assert_ne!(key(&question()), new().0.key_of(&question()));
        let others = [
            Question {
                authorization: None,
                ..question()
            },
            Question {
                authorization: text("Bearer b"),
                ..question()
            },
            Question {
                authorization: text("Bearer as"),
                cookies: text("id=b"),
                ..question()
            },
            Question {
                authorization: text(""),
                ..question()
            },
            Question {
                cookies: None,
                ..question()
            },
            Question {
                cookies: text("sid=c"),
                ..question()
            },
            Question {
                authorization: None,
                cookies: text("Bearer asid=b"),
                ..question()
            },
            Question {
                address: [127, 0, 0, 2].into(),
                ..question()
            },
            Question {
                address: "::1".parse().unwrap(),
                ..question()
            },
        ];
        let mut keys: Vec<Key> = others.iter().map(key).collect();
        keys.push(key(&question()));
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), others.len() + 1);
    }
}
