//! From a request to its response: the hand-written match answers what it knows at once, the router everything else, and
//! whatever panics is answered 500 and harms nobody else.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::{Body as HttpBody, Incoming};
use hyper::header::{ACCEPT_ENCODING, CONNECTION, HeaderValue};
use hyper::service::Service;
use hyper::{HeaderMap, Request, Response, StatusCode};
use tower::ServiceExt;

use super::body::{self, Body};
use super::compression;
use super::cors::{self, Grant};
use super::error::Error;
use super::route::{Route, Verb};
use super::seed::{self, Ask, Match};
use super::socket::Socket;
use super::worker::{Scope, Worker};

/// The service of one connection.
pub(super) struct Dispatch {
    pub worker: Rc<Worker>,
    pub socket: Socket,
}

/// A response, now or later.
pub(super) enum Answer {
    Now(Option<Response<Body>>),
    Later(Later),
}

type Later = Pin<Box<dyn Future<Output = Response<Body>>>>;

impl Future for Answer {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Now(response) => {
                Poll::Ready(Ok(response.take().expect("hyper polls no future that has completed")))
            }
            Self::Later(response) => response.as_mut().poll(cx).map(Ok),
        }
    }
}

impl Service<Request<Incoming>> for Dispatch {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, mut request: Request<Incoming>) -> Answer {
        // The request stays where it is and the answer is written in place: each is some 200 bytes, and moving them through
        // the catch and back was a tenth of what a heal cost.
        let mut answer = None;
        let grant = self.worker.grant(&request);
        match catch_unwind(AssertUnwindSafe(|| self.answer_now(&mut request, &mut answer))) {
            Ok(()) if answer.is_none() => return Answer::Later(self.answer_later(request, grant)),
            Ok(()) => {}
            Err(panic) => {
                let response = after_panic(&*panic);
                self.served(Route::of(request.uri().path()), &request, &response);
                answer = Some(response);
            }
        }
        if let Some(response) = &mut answer {
            if let Some(grant) = grant {
                grant.write(response.headers_mut());
            }
            self.worker.part(response);
        }
        Answer::Now(answer)
    }
}

impl Dispatch {
    /// Answers what the match knows, if the request is complete.
    #[inline]
    fn answer_now(&self, request: &mut Request<Incoming>, answer: &mut Option<Response<Body>>) {
        if !request.body().is_end_stream() {
            return;
        }
        let route = match self.worker.match_request(request) {
            // Later: this thread has other connections to serve until the disk has answered.
            Match::Ask(ask) if self.worker.must_wait(ask) => return,
            // Whoever takes it compressed may have to be given it in pieces.
            Match::Ask(Ask::HeartRhythm(_)) if request.headers().contains_key(ACCEPT_ENCODING) => return,
            Match::Ask(ask) => {
                *answer = Some(self.worker.answer(ask, std::mem::take(request.headers_mut())));
                ask.route()
            }
            Match::Preflight(route) => {
                *answer = Some(cors::permit(route));
                route
            }
            Match::Refused(error, allow) => {
                *answer = Some(self.worker.refuse(request, error, allow));
                Route::of(request.uri().path())
            }
            Match::Other => return,
        };
        if let Some(response) = answer {
            self.served(route, request, response);
        }
    }

    #[inline]
    fn served(&self, route: Route, request: &Request<Incoming>, response: &Response<Body>) {
        self.socket.served(route);
        self.worker.stats.answered(route, Verb::of(request.method()), response.status());
    }

    fn answer_later(&self, request: Request<Incoming>, grant: Option<Grant>) -> Later {
        let is_complete = request.body().is_end_stream();
        let (route, verb) = (Route::of(request.uri().path()), Verb::of(request.method()));
        self.socket.serving(route);
        let (worker, parting, socket) =
            (Rc::clone(&self.worker), Rc::clone(&self.worker), self.socket.clone());
        let stats = Arc::clone(&worker.stats);
        // Also when the client goes away first. Whoever waits for something to happen holds nobody up.
        let in_flight = (!route.waits()).then(|| stats.wait());
        let framing = if is_complete { Ok(()) } else { seed::check_framing(&request, &socket) };
        let answer = CatchPanic(Box::pin(async move {
            if let Err(error) = framing {
                return error.into_response_with(HeaderMap::new());
            }
            worker.answer_with_body(request).await
        }));
        let is_query = is_complete && route.is_over_everybody();
        Box::pin(async move {
            let mut response = if is_query { unless_gone(&socket, answer).await } else { answer.await };
            if let Some(grant) = grant {
                grant.write(response.headers_mut());
            }
            socket.answered(!is_complete);
            parting.part(&mut response);
            stats.answered(route, verb, response.status());
            response.map(|body| body.holding(in_flight))
        })
    }
}

/// What takes long and changes nothing is not done for a client that has gone. One that has ended only its own side looks the
/// same from here; elsewhere it is answered, and to these calls it is told why not.
async fn unless_gone(socket: &Socket, answer: impl Future<Output = Response<Body>>) -> Response<Body> {
    tokio::select! {
        biased;
        response = answer => response,
        () = std::future::poll_fn(|cx| socket.poll_gone(cx)) => GONE.into_response_with(HeaderMap::new()),
    }
}

const GONE: Error = Error::fixed(
    StatusCode::BAD_REQUEST,
    "keep your side of the connection open until the answer to a query over everybody has come",
)
.closing();

impl Worker {
    /// Where metrics are read, nobody is healed.
    #[inline]
    fn match_request(&self, request: &Request<Incoming>) -> Match {
        if self.scope != Scope::Everything {
            return seed::check_host(request)
                .map_or_else(|error| Match::Refused(error, None), |()| Match::Other);
        }
        if self.app.cors.is_some()
            && let Some(route) = cors::preflight(request)
            && seed::check_host(request).is_ok()
        {
            return Match::Preflight(route);
        }
        seed::match_request(request)
    }

    /// What is to be told to a page of another origin: one branch where no such page is known.
    #[inline]
    fn grant(&self, request: &Request<Incoming>) -> Option<Grant> {
        Grant::of(self.app.cors.as_ref()?, request.headers())
    }

    /// While the service drains, each answer is the last on its connection.
    #[inline]
    fn part(&self, response: &mut Response<Body>) {
        if self.app.is_draining() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    async fn route(&self, request: Request<Incoming>) -> Response<Body> {
        match self.router.clone().oneshot(request.map(axum::body::Body::new)).await {
            Ok(response) => response.map(|body| Body::Axum { body, _in_flight: None }),
            Err(never) => match never {},
        }
    }

    /// A heal means nothing to its body, but takes effect only when the body has arrived: half a request heals nobody.
    async fn answer_with_body(&self, mut request: Request<Incoming>) -> Response<Body> {
        match self.match_request(&request) {
            Match::Other => self.route(request).await,
            Match::Refused(error, allow) => self.refuse(&mut request, error, allow),
            // Nothing depends on its body, and a browser sends none.
            Match::Preflight(route) => cors::permit(route),
            Match::Ask(ask) => {
                let (parts, body) = request.into_parts();
                match body::read(body, self.app.body_limits).await {
                    Ok(_ignored) => self.answer_well(ask, parts.headers).await,
                    Err(error) => Error::from(error).into_response_with(parts.headers),
                }
            }
        }
    }
}

impl Worker {
    /// In its time, and compressed if it is long and that was asked for.
    async fn answer_well(&self, ask: Ask, headers: HeaderMap) -> Response<Body> {
        let accepts = matches!(ask, Ask::HeartRhythm(_)).then(|| compression::accepts(&headers)).flatten();
        let answer = self.answer_in_time(ask, headers).await;
        match accepts {
            Some(accepts) => compression::compress(accepts, answer).await,
            None => answer,
        }
    }
}

struct CatchPanic<F>(Pin<Box<F>>);

impl<F: Future<Output = Response<Body>>> Future for CatchPanic<F> {
    type Output = Response<Body>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        let future = &mut self.get_mut().0;
        catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)))
            .unwrap_or_else(|panic| Poll::Ready(after_panic(&*panic)))
    }
}

fn after_panic(panic: &(dyn std::any::Any + Send)) -> Response<Body> {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("of no known type");
    tracing::error!(panic = message, "a request handler panicked; its client was answered 500");
    Error::INTERNAL.into_response_with(HeaderMap::new())
}
