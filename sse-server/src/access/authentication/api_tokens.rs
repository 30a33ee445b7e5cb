//! Tokens that the operator makes: for scripts and services that no application signs tokens for.
//!
//! A token is shown once, when it is made. The file keeps its SHA-256, its grants and its dates, and is read again when it has
//! changed, so that a running hub knows of new and of revoked tokens within a second or two.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sse_broker::UnixMillis;
use subtle::ConstantTimeEq as _;

use super::AuthenticationError;
use crate::access::{Credential, CredentialKind, Grants};
use crate::clock;

/// What a token's text begins with, so that it is known for one wherever it turns up.
pub(super) const PREFIX: &str = "sse_";

/// A file of tokens.
#[derive(Clone, Debug)]
pub struct TokenFile {
    path: PathBuf,
}

/// A token, as the file keeps it: all but its secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredToken {
    /// Its name for people and commands.
    pub id: String,
    /// The SHA-256 of its secret, in hexadecimal.
    sha256: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The user that it stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What it grants.
    pub grants: Value,
    /// When it was made.
    pub created_at: UnixMillis,
    /// Until when it holds; `None` for as long as it stands in the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UnixMillis>,
}

/// What a new token is to be.
#[derive(Clone, Debug, Default)]
pub struct NewToken {
    /// What it is for.
    pub name: Option<String>,
    /// The user that it stands for.
    pub user: Option<String>,
    /// What it grants, as JSON.
    pub grants: Value,
    /// Until when it holds.
    pub expires_at: Option<UnixMillis>,
}

/// A file of tokens cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct TokenFileError {
    path: String,
    reason: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileJson {
    tokens: Vec<StoredToken>,
}

impl TokenFile {
    /// The file at this path, which need not be there yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Every token; none where there is no file.
    ///
    /// # Errors
    ///
    /// When it cannot be read or is not such a file.
    pub fn tokens(&self) -> Result<Vec<StoredToken>, TokenFileError> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.wrong(&error)),
        };
        let file: FileJson = serde_json::from_slice(&text).map_err(|error| self.wrong(&error))?;
        Ok(file.tokens)
    }

    /// Makes a token and says what it is: its id, and the text that is shown this once.
    ///
    /// # Errors
    ///
    /// When its grants are none, or the file cannot be written.
    pub fn add(&self, new: NewToken, now: UnixMillis) -> Result<(String, String), TokenFileError> {
        serde_json::from_value::<Grants>(new.grants.clone()).map_err(|error| self.wrong(&error))?;
        let id = hex(&clock::secret::<6>().map_err(|error| self.wrong(&error))?);
        let secret = clock::secret::<32>().map_err(|error| self.wrong(&error))?;
        let secret = URL_SAFE_NO_PAD.encode(secret);
        let stored = StoredToken {
            id: id.clone(),
            sha256: hex(digest(&SHA256, secret.as_bytes()).as_ref()),
            name: new.name,
            user: new.user,
            grants: new.grants,
            created_at: now,
            expires_at: new.expires_at,
        };
        self.change(|tokens| tokens.push(stored))?;
        let text = format!("{PREFIX}{id}_{secret}");
        Ok((id, text))
    }

    /// Takes a token out; false when there is none of this id.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written.
    pub fn remove(&self, id: &str) -> Result<bool, TokenFileError> {
        let mut is_there = false;
        self.change(|tokens| {
            is_there = tokens.iter().any(|token| token.id == id);
            tokens.retain(|token| token.id != id);
        })?;
        Ok(is_there)
    }

    /// When each token was last used, as far as a hub has written it down.
    #[must_use]
    pub fn last_uses(&self) -> BTreeMap<String, UnixMillis> {
        let text = fs::read(self.beside("used")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Changes the file as one, whoever else changes it at the same time: the new one takes the old one's place.
    fn change(&self, change: impl FnOnce(&mut Vec<StoredToken>)) -> Result<(), TokenFileError> {
        let lock = File::create(self.beside("lock")).map_err(|error| self.wrong(&error))?;
        lock.lock().map_err(|error| self.wrong(&error))?;
        let mut tokens = self.tokens()?;
        change(&mut tokens);
        let text =
            serde_json::to_vec_pretty(&FileJson { tokens }).map_err(|error| self.wrong(&error))?;
        self.replace(&self.path, &text)
    }

    fn replace(&self, path: &Path, text: &[u8]) -> Result<(), TokenFileError> {
        let new = self.beside("new");
        let written = private(&new).and_then(|mut file| {
            file.write_all(text)?;
            file.sync_all()?;
            fs::rename(&new, path)
        });
        written.map_err(|error| self.wrong(&error))
    }

    fn beside(&self, extension: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".");
        name.push(extension);
        name.into()
    }

    fn wrong(&self, reason: &dyn std::fmt::Display) -> TokenFileError {
        TokenFileError {
            path: self.path.display().to_string(),
            reason: reason.to_string(),
        }
    }
}

/// A new file that only its owner may read.
fn private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A token that a hub takes.
#[derive(Clone, Debug)]
pub(super) struct ApiToken {
    sha256: String,
    pub(super) user: Option<String>,
    pub(super) grants: Grants,
    pub(super) credential: Arc<Credential>,
}

/// The tokens of a file, as they are now.
#[derive(Debug)]
pub(super) struct ApiTokens {
    file: TokenFile,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tokens: Arc<HashMap<String, ApiToken>>,
    /// Of the file that they are from.
    stamp: Option<Stamp>,
    looked_at: Instant,
    /// What nobody was told of yet.
    change: Option<TokenChange>,
    /// When each was used last, and whether that is written down.
    used: BTreeMap<String, UnixMillis>,
    is_used_unsaved: bool,
    saved_at: Instant,
}

/// What has become of the tokens in a file that was changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenChange {
    /// The ids of those that are new.
    pub added: Vec<String>,
    /// The ids of those that are not good any more.
    pub revoked: Vec<String>,
}

/// What changes when a file does.
type Stamp = (SystemTime, u64);

impl ApiTokens {
    /// Reads the file; one that is not there yet has no tokens.
    pub(super) fn open(file: TokenFile) -> Result<Self, TokenFileError> {
        let stamp = stamp(&file);
        let tokens = read(&file)?;
        let used = file.last_uses();
        let now = clock::now();
        Ok(Self {
            file,
            state: Mutex::new(State {
                tokens: Arc::new(tokens),
                stamp,
                looked_at: now,
                change: None,
                used,
                is_used_unsaved: false,
                saved_at: now,
            }),
        })
    }

    /// The token with this text, if it is good now.
    pub(super) fn verify(
        &self,
        text: &str,
        now: UnixMillis,
    ) -> Result<ApiToken, AuthenticationError> {
        let unknown = || AuthenticationError::Invalid("there is no such token".into());
        let (id, secret) = text
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('_'))
            .ok_or_else(unknown)?;
        let sha256 = hex(digest(&SHA256, secret.as_bytes()).as_ref());
        self.refresh(clock::now());
        let tokens = Arc::clone(&self.state.lock().tokens);
        let token = tokens.get(id).ok_or_else(unknown)?;
        if !bool::from(token.sha256.as_bytes().ct_eq(sha256.as_bytes())) {
            return Err(unknown());
        }
        if token.credential.expires_at.is_some_and(|at| at <= now) {
            return Err(AuthenticationError::Invalid("the token has expired".into()));
        }
        let mut state = self.state.lock();
        state.used.insert(id.to_owned(), now);
        state.is_used_unsaved = true;
        Ok(token.clone())
    }

    /// Whether a credential is one of these tokens, and not there any more.
    pub(super) fn is_gone(&self, credential: &Credential) -> bool {
        credential.kind == CredentialKind::ApiToken
            && credential
                .id
                .as_deref()
                .is_none_or(|id| !self.state.lock().tokens.contains_key(id))
    }

    /// What has changed in the file since this was asked for last. Each change is told once, whoever has noticed it.
    pub(super) fn take_change(&self) -> Option<TokenChange> {
        self.state.lock().change.take()
    }

    /// Reads the file again if it has changed, at most once a second.
    pub(super) fn refresh(&self, now: Instant) {
        let before = {
            let mut state = self.state.lock();
            if now.saturating_duration_since(state.looked_at) < LOOK_INTERVAL {
                return;
            }
            state.looked_at = now;
            state.stamp
        };
        let stamp = stamp(&self.file);
        if stamp == before {
            return;
        }
        let read = read(&self.file);
        let mut state = self.state.lock();
        // Told once for each change: what cannot be read now is looked at when it changes again.
        state.stamp = stamp;
        match read {
            Ok(tokens) => {
                let old = std::mem::replace(&mut state.tokens, Arc::new(tokens));
                let tokens = Arc::clone(&state.tokens);
                let change = state.change.get_or_insert_default();
                let missing = |from: &HashMap<_, _>, of: &HashMap<String, _>| -> Vec<String> {
                    let ids = of.keys().filter(|id| !from.contains_key(*id));
                    ids.cloned().collect()
                };
                change.added.extend(missing(&old, &tokens));
                change.revoked.extend(missing(&tokens, &old));
            }
            Err(error) => {
                drop(state);
                tracing::error!(%error, "the file of tokens cannot be read; those that were there hold");
            }
        }
    }

    /// Writes down when the tokens were used, if that is due.
    pub(super) fn save_uses(&self, now: Instant, is_last: bool) {
        let used = {
            let mut state = self.state.lock();
            let is_due = is_last || now.saturating_duration_since(state.saved_at) >= SAVE_INTERVAL;
            if !state.is_used_unsaved || !is_due {
                return;
            }
            state.saved_at = now;
            state.is_used_unsaved = false;
            let tokens = Arc::clone(&state.tokens);
            state.used.retain(|id, _| tokens.contains_key(id));
            state.used.clone()
        };
        let text = serde_json::to_vec(&used).unwrap_or_default();
        if let Err(error) = self.file.replace(&self.file.beside("used"), &text) {
            tracing::warn!(%error, "the last use of tokens was not written down");
        }
    }
}

fn stamp(file: &TokenFile) -> Option<Stamp> {
    let metadata = fs::metadata(&file.path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn read(file: &TokenFile) -> Result<HashMap<String, ApiToken>, TokenFileError> {
    let mut tokens = HashMap::new();
    for stored in file.tokens()? {
        let grants = serde_json::from_value(stored.grants)
            .map_err(|error| file.wrong(&format!("the token {}: {error}", stored.id)))?;
        let token = ApiToken {
            sha256: stored.sha256,
            user: stored.user,
            grants,
            credential: Arc::new(Credential {
                kind: CredentialKind::ApiToken,
                id: Some(stored.id.as_str().into()),
                issued_at: Some(stored.created_at),
                expires_at: stored.expires_at,
            }),
        };
        tokens.insert(stored.id, token);
    }
    Ok(tokens)
}

/// How often the file is looked at, at most.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often the last uses are written down. A stated guess.
const SAVE_INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(folder: &tempfile::TempDir) -> TokenFile {
        TokenFile::new(folder.path().join("tokens.json"))
    }

    fn add(file: &TokenFile, grants: Value, expires_at: Option<UnixMillis>) -> (String, String) {
        let new = NewToken {
            grants,
            expires_at,
            ..NewToken::default()
        };
        file.add(new, 5).unwrap()
    }

    #[test]
    fn a_token_is_known_by_its_secret_which_the_file_does_not_hold() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        let (id, text) = add(&file, json!({"publish": ["*"]}), Some(100));
        let written = fs::read_to_string(folder.path().join("tokens.json")).unwrap();
        let secret = text.rsplit_once(&id).unwrap().1;
        assert!(written.contains(&id) && !written.contains(secret.trim_start_matches('_')));
        let tokens = ApiTokens::open(file).unwrap();
        assert!(
            tokens
                .verify(&text, 99)
                .unwrap()
                .grants
                .may_publish("x", "y")
        );
        assert!(tokens.verify(&text, 100).is_err(), "it has expired");
        for wrong in [
            format!("{text}x"),
            text[..text.len() - 1].to_owned(),
            format!("{PREFIX}{id}_"),
            format!("{PREFIX}{id}"),
            PREFIX.to_owned(),
            "x".to_owned(),
            format!("{PREFIX}000000000000{secret}"),
        ] {
            assert!(tokens.verify(&wrong, 0).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_broken_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        let tokens = ApiTokens::open(file.clone()).unwrap();
        let (id, text) = add(&file, json!({}), None);
        assert!(
            tokens.verify(&text, 0).is_err(),
            "it was looked at a moment ago"
        );
        let later = |seconds| clock::now() + Duration::from_secs(seconds);
        tokens.refresh(later(2));
        assert!(tokens.take_change().is_some());
        let credential = tokens.verify(&text, 0).unwrap().credential;
        assert!(!tokens.is_gone(&credential));
        fs::write(folder.path().join("tokens.json"), "{").unwrap();
        tokens.refresh(later(4));
        assert!(tokens.take_change().is_none());
        assert!(tokens.verify(&text, 0).is_ok());
        fs::remove_file(folder.path().join("tokens.json")).unwrap();
        tokens.refresh(later(6));
        assert!(tokens.take_change().is_some());
        assert!(tokens.verify(&text, 0).is_err() && tokens.is_gone(&credential));
        assert!(!file.remove(&id).unwrap());
    }

    #[test]
    fn many_who_change_the_file_at_once_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        let adding = (0..8).map(|_| {
            let file = file.clone();
            std::thread::spawn(move || add(&file, json!({}), None).0)
        });
        let ids: Vec<String> = adding
            .collect::<Vec<_>>()
            .into_iter()
            .map(|it| it.join().unwrap())
            .collect();
        assert_eq!(file.tokens().unwrap().len(), 8);
        assert!(file.remove(&ids[3]).unwrap());
        assert_eq!(file.tokens().unwrap().len(), 7);
    }

    #[test]
    fn when_a_token_was_used_is_written_down() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        let (id, text) = add(&file, json!({}), None);
        let tokens = ApiTokens::open(file.clone()).unwrap();
        tokens.verify(&text, 77).unwrap();
        tokens.save_uses(clock::now(), false);
        assert!(file.last_uses().is_empty(), "not every second");
        tokens.save_uses(clock::now(), true);
        assert_eq!(file.last_uses()[&id], 77);
    }
}
