//! What can be asked of the hub over HTTP, whatever the path.

use http::Method;

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Index,
    /// A file of this folder of `web/`.
    Asset(&'static str),
    TestPage,
    Console,
    Stream,
    WebSocket,
    Publish,
    TestEvent,
    Poll,
    Subscribe,
    NamedSubscriptions,
    NamedSubscription,
    DeleteNamedSubscription,
    AckNamedSubscription,
    ResetNamedSubscription,
    Connections,
    Connection,
    CloseConnection,
    Cleanup,
    RenewConnection,
    MakeTicket,
    Revoke,
    Erase,
    Stats,
    Health,
    StreamHealth,
    Metrics,
    Live,
    Ready,
    Jobs,
    CreateJob,
    Job,
    JobProgress,
    JobComplete,
    JobError,
    JobCancel,
}

impl Operation {
    /// Whether its requests have a body to be read.
    pub(crate) fn takes_body(self) -> bool {
        matches!(
            self,
            Self::Publish
                | Self::TestEvent
                | Self::Subscribe
                | Self::MakeTicket
                | Self::Revoke
                | Self::AckNamedSubscription
                | Self::ResetNamedSubscription
                | Self::CreateJob
                | Self::JobProgress
                | Self::JobComplete
                | Self::JobError
                | Self::JobCancel
        )
    }

    /// Whether it may wait for what it is asked for (`?wait=`).
    pub(crate) fn can_wait(self) -> bool {
        matches!(self, Self::Poll | Self::Job)
    }

    /// Whether it tells how the hub is to whoever would restart it, also when it is overloaded.
    pub(crate) fn is_probe(self) -> bool {
        matches!(self, Self::Live | Self::Ready | Self::Metrics)
    }

    /// Whether it publishes what its body says.
    pub(crate) fn publishes(self) -> bool {
        matches!(self, Self::Publish | Self::TestEvent) || self.is_of_jobs()
    }

    /// Whether its body is the state of a job, or a part of it.
    pub(crate) fn is_of_jobs(self) -> bool {
        matches!(
            self,
            Self::CreateJob
                | Self::JobProgress
                | Self::JobComplete
                | Self::JobError
                | Self::JobCancel
        )
    }

    /// Whether only those may ask who administer the hub.
    pub(crate) fn is_administration(self) -> bool {
        matches!(
            self,
            Self::Stats
                | Self::Health
                | Self::StreamHealth
                | Self::Metrics
                | Self::Revoke
                | Self::Erase
                | Self::Cleanup
        )
    }

    /// What the audit log calls it, where it changes something. Events that are published are told of one by one.
    pub(crate) fn audited_as(self) -> Option<&'static str> {
        Some(match self {
            Self::Subscribe => "change_subscriptions",
            Self::DeleteNamedSubscription => "delete_named_subscription",
            Self::ResetNamedSubscription => "reset_named_subscription",
            Self::CloseConnection => "close_connection",
            Self::Cleanup => "cleanup",
            Self::RenewConnection => "renew_token",
            Self::MakeTicket => "make_ticket",
            Self::Revoke => "revoke",
            Self::Erase => "erase",
            Self::CreateJob => "create_job",
            Self::JobProgress => "job_progress",
            Self::JobComplete => "job_complete",
            Self::JobError => "job_error",
            Self::JobCancel => "job_cancel",
            _ => return None,
        })
    }

    /// Whether it is the same for everyone, so that nobody is asked who they are.
    pub(crate) fn is_open(self) -> bool {
        matches!(
            self,
            Self::Index
                | Self::Live
                | Self::Ready
                | Self::Asset(_)
                | Self::TestPage
                | Self::Console
        )
    }

    /// Whether it shows or changes what all callers do: [`--admin-listen`](crate::config::ServerSettings::admin_listen) takes
    /// these off the public listeners.
    pub(crate) fn is_management(self) -> bool {
        self.is_administration()
            || matches!(
                self,
                Self::Console | Self::Connections | Self::Connection | Self::CloseConnection
            )
    }

    /// Whether a page of another origin must not ask for it. A browser lets any page open a WebSocket, and read it.
    pub(crate) fn is_guarded(self, method: &Method) -> bool {
        self == Self::WebSocket || (*method != Method::GET && *method != Method::HEAD)
    }
}
