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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TriageForm {
    version: i64,
    seen_revision: Option<u32>,
    status: Option<Status>,
    disposition: Option<Disposition>,
    assignee: Option<String>,
}

/// `POST /alerts/{id}/triage`.
pub(super) async fn triage(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    FormBody(form): FormBody<TriageForm>,
) -> Result<Response, Problem> {
    let TriageForm { version, seen_revision, status, disposition, assignee } = form;
    let change = Change { status, assignee, disposition, seen_revision };
    match triage::apply(&app, &id, version, change, &caller).await {
        Ok(_) => Ok(Redirect::to(&segment("/alerts/", &id)).into_response()),
        Err(problem) if problem.is(Kind::VersionMismatch) || problem.is(Kind::InvalidBody) => {
            let mut page = alert::show(&app, &id, Some(problem.detail().to_owned())).await?;
            *page.status_mut() = problem.status();
            Ok(page)
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
    comment::add(&app, &id, &form.text, &caller).await?;
    Ok(Redirect::to(&segment("/alerts/", &id)).into_response())
}
