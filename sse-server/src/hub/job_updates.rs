//! Reports of jobs in one call each, for applications that create no jobs before.

use std::sync::Arc;

use serde_json::{Number, Value};

use super::job::InvalidProgress;
use super::{Hub, Job, JobChange, JobError, NewJob, Progress};
use crate::clock;

impl Hub {
    /// Reports a job's progress, in percent or of its total; a job nobody created begins with it.
    ///
    /// # Errors
    ///
    /// When the job has ended or it could not be published.
    pub async fn send_progress_update(
        &self,
        job_id: &str,
        progress: f64,
        message: impl Into<String>,
    ) -> Result<Arc<Job>, JobError> {
        let progress = Progress {
            progress: Some(number(progress).ok_or(InvalidProgress::NotANumber)?),
            message: Some(message.into()),
            ..Progress::default()
        };
        self.change_or_begin(job_id, JobChange::Progress(progress))
            .await
    }

    /// Ends a job with its result; a job nobody created begins and ends with it.
    ///
    /// # Errors
    ///
    /// When the job has ended or it could not be published.
    pub async fn send_completion_update(
        &self,
        job_id: &str,
        result: Value,
    ) -> Result<Arc<Job>, JobError> {
        self.change_or_begin(
            job_id,
            JobChange::Complete {
                result: result.into(),
                message: None,
            },
        )
        .await
    }

    /// Ends a job with an error; a job nobody created begins and ends with it.
    ///
    /// # Errors
    ///
    /// When the job has ended or it could not be published.
    pub async fn send_error_update(
        &self,
        job_id: &str,
        error: impl Into<String>,
    ) -> Result<Arc<Job>, JobError> {
        self.change_or_begin(
            job_id,
            JobChange::Error {
                error: error.into(),
                message: None,
            },
        )
        .await
    }

    /// Reports of a job, which begins with that where nobody created it. One that is to be cancelled must be there.
    pub(crate) async fn change_or_begin(
        &self,
        job_id: &str,
        change: JobChange,
    ) -> Result<Arc<Job>, JobError> {
        if self.job(job_id).is_none() && !matches!(change, JobChange::Cancel { .. }) {
            let new = NewJob {
                job_id: Some(job_id.to_owned()),
                ..NewJob::default()
            };
            // A report that is refused begins nothing.
            let first = Job::new(job_id.to_owned(), new.clone(), clock::unix_millis());
            first
                .apply(change.clone(), clock::unix_millis())?
                .0
                .check_progress()?;
            match self.create_job(new).await {
                // Somebody else began it meanwhile: as good.
                Ok(_) | Err(JobError::Exists(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.change_job(job_id, change).await
    }
}

/// A whole number without a fraction, as people write it; nothing for what is not a number.
#[expect(
    clippy::cast_possible_truncation,
    reason = "checked to be a whole number within range"
)]
fn number(n: f64) -> Option<Number> {
    if n.fract() == 0.0 && n.abs() < 9.0e15 {
        Some(Number::from(n as i64))
    } else {
        Number::from_f64(n)
    }
}
