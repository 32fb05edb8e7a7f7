//! The console's forms: triage and comments. They do what the API's routes do, and answer with a redirect.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Form, FromRequest, Request, State},
    response::{IntoResponse, Redirect, Response},
};
use serde::{Deserialize, de::DeserializeOwned};
use vedette_store::model::{Disposition, Status};

use super::{alert, segment};
use crate::{
    app::App,
    auth::Caller,
    desk::{
        comment,
        triage::{self, Change},
    },
    params::Segment,
    problem::{Kind, Problem},
};

/// A form's body as a `T`.
pub(super) struct FormBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for FormBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match Form::from_request(request, state).await {
            Ok(Form(value)) => Ok(Self(value)),
            Err(rejection) => Err(match rejection.into_response().status().as_u16() {
                413 => Problem::new(Kind::BodyTooLarge, "The form is larger than this page takes."),
                415 => Problem::new(
                    Kind::UnsupportedMediaType,
                    "The form must be application/x-www-form-urlencoded.",
                ),
                _ => Problem::new(Kind::InvalidBody, "The form cannot be read."),
            }),
        }
    }
}

/// What a button of the one form does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Act {
    /// Takes over the owner and the comment that the form holds, and nothing else.
    Save,
    /// Makes who presses it the owner, and acknowledges what is new.
    Take,
    Acknowledge,
    Work,
    /// Back to new, or open again.
    Renew,
    TruePositive,
    Benign,
    FalsePositive,
    Duplicate,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TriageForm {
    version: i64,
    seen_revision: Option<u32>,
    act: Option<Act>,
    status: Option<Status>,
    disposition: Option<Disposition>,
    assignee: Option<String>,
    /// The owner whom the form showed: an owner that nobody touched is none that is given.
    was: Option<String>,
    text: Option<String>,
}

impl TriageForm {
    /// The change that it asks for, if any.
    fn change(&self, caller: &Caller) -> Option<Change> {
        let (status, disposition) = match self.act {
            None | Some(Act::Save) => (self.status, self.disposition),
            Some(Act::Take | Act::Acknowledge) => (Some(Status::Acknowledged), None),
            Some(Act::Work) => (Some(Status::InProgress), None),
            Some(Act::Renew) => (Some(Status::New), None),
            Some(Act::TruePositive) => (Some(Status::Closed), Some(Disposition::TruePositive)),
            Some(Act::Benign) => (Some(Status::Closed), Some(Disposition::Benign)),
            Some(Act::FalsePositive) => (Some(Status::Closed), Some(Disposition::FalsePositive)),
            Some(Act::Duplicate) => (Some(Status::Closed), Some(Disposition::Duplicate)),
        };
        let given =
            self.assignee.clone().filter(|given| Some(given.trim()) != self.was.as_deref().map(str::trim));
        let assignee = if self.act == Some(Act::Take) { Some(caller.name.clone()) } else { given };
        let nothing = status.is_none() && disposition.is_none() && assignee.is_none();
        // A form without a button's word is one of a program, which hears that it changes nothing.
        (!nothing || self.act.is_none()).then_some(Change {
            status,
            assignee,
            disposition,
            seen_revision: self.seen_revision,
        })
    }
}

/// `POST /alerts/{id}/triage`: the change first, then the comment, so that a comment on a change that failed is not there twice.
pub(super) async fn triage(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    FormBody(form): FormBody<TriageForm>,
) -> Result<Response, Problem> {
    let text = form.text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    let done = async {
        if let Some(text) = &text {
            comment::checked(text)?;
        }
        if let Some(change) = form.change(&caller) {
            triage::apply(&app, &id, form.version, change, &caller).await?;
        }
        if let Some(text) = &text {
            comment::add(&app, &id, text, None, &caller).await?;
        }
        Ok::<_, Problem>(())
    };
    match done.await {
        Ok(()) => Ok(Redirect::to(&segment("/alerts/", &id)).into_response()),
        Err(problem) if problem.is(Kind::VersionMismatch) || problem.is(Kind::InvalidBody) => {
            alert::unsaved(&app, &id, &problem, text.unwrap_or_default()).await
        }
        Err(problem) => Err(problem),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CommentForm {
    text: String,
}

/// `POST /alerts/{id}/comments`.
pub(super) async fn comment(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    FormBody(form): FormBody<CommentForm>,
) -> Result<Response, Problem> {
    comment::add(&app, &id, &form.text, None, &caller).await?;
    Ok(Redirect::to(&segment("/alerts/", &id)).into_response())
}
