//! An operation that answers by script.

use perf_core::time::{Instant, now, sleep};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// An operation whose calls are answered by script, in the order in which they start. Clones share the script, so one
/// serves as the operation and another as its handle.
///
/// A call beyond the end of the script gets the answer of [`Script::otherwise`], or panics when there is none. Delays follow
/// tokio's clock, which tests pause.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// use perf_testkit::Script;
/// use std::time::Duration;
///
/// let script = Script::new();
/// script.answer(Err("down")).answer_after(Duration::from_millis(20), Ok(7));
/// assert_eq!(script.call("first").await, Err("down"));
/// assert_eq!(script.call("second").await, Ok(7));
/// assert_eq!(script.requests(), ["first", "second"]);
/// # });
/// ```
pub struct Script<Q, A>(Arc<Shared<Q, A>>);

struct Shared<Q, A> {
    state: Mutex<State<Q, A>>,
    held: Notify,
}

struct State<Q, A> {
    steps: VecDeque<Step<Q, A>>,
    otherwise: Option<Arc<Answer<Q, A>>>,
    requests: Vec<Q>,
    started: Vec<Instant>,
    held: VecDeque<Held<A>>,
    in_flight: usize,
    most_in_flight: usize,
    finished: usize,
    cancelled: usize,
}

/// What answers calls beyond the end of the script.
type Answer<Q, A> = dyn Fn(&Q) -> A + Send + Sync;
/// What answers one call.
type AnswerOnce<Q, A> = Box<dyn FnOnce(&Q) -> A + Send>;

enum Step<Q, A> {
    After(Duration, AnswerOnce<Q, A>),
    Never,
    Panic(&'static str),
    Held,
}

#[expect(
    clippy::must_use_candidate,
    reason = "steps return the script for chaining and take effect by themselves"
)]
impl<Q: 'static, A: 'static> Script<Q, A> {
    /// An empty script.
    #[must_use]
    pub fn new() -> Self {
        let state = State {
            steps: VecDeque::new(),
            otherwise: None,
            requests: Vec::new(),
            started: Vec::new(),
            held: VecDeque::new(),
            in_flight: 0,
            most_in_flight: 0,
            finished: 0,
            cancelled: 0,
        };
        Self(Arc::new(Shared { state: Mutex::new(state), held: Notify::new() }))
    }

    /// The next call is answered at once.
    pub fn answer(&self, answer: A) -> &Self
    where
        A: Send + 'static,
    {
        self.answer_after(Duration::ZERO, answer)
    }

    /// The next call is answered after `delay`; at zero without yielding.
    pub fn answer_after(&self, delay: Duration, answer: A) -> &Self
    where
        A: Send + 'static,
    {
        self.answer_with(delay, move |_| answer)
    }

    /// The next call is answered after `delay` with what `answer` makes of its request.
    pub fn answer_with(&self, delay: Duration, answer: impl FnOnce(&Q) -> A + Send + 'static) -> &Self {
        self.step(Step::After(delay, Box::new(answer)))
    }

    /// The next call is never answered.
    pub fn never(&self) -> &Self {
        self.step(Step::Never)
    }

    /// The next call panics with this message.
    pub fn panic(&self, message: &'static str) -> &Self {
        self.step(Step::Panic(message))
    }

    /// The next call waits until it is answered through [`Script::held`].
    pub fn hold(&self) -> &Self {
        self.step(Step::Held)
    }

    /// Calls beyond the end of the script are answered at once with what `answer` makes of their request.
    pub fn otherwise(&self, answer: impl Fn(&Q) -> A + Send + Sync + 'static) -> &Self {
        self.state().otherwise = Some(Arc::new(answer));
        self
    }

    fn step(&self, step: Step<Q, A>) -> &Self {
        self.state().steps.push_back(step);
        self
    }

    /// Makes a call. It counts as started at once, before the future is polled.
    ///
    /// # Panics
    /// The future panics where the script says so, and when the script is at its end without [`Script::otherwise`].
    ///
    /// # Cancel safety
    /// A dropped call is counted by [`Script::cancelled`]; its step is spent.
    pub fn call(&self, request: Q) -> impl Future<Output = A> + use<Q, A>
    where
        Q: Clone,
    {
        let step = self.begin(&request);
        let flight = Flight { script: self.clone(), finished: false };
        async move {
            let answer = match step {
                Begun::Answer(Duration::ZERO, answer) => answer(&request),
                Begun::Answer(delay, answer) => {
                    sleep(delay).await;
                    answer(&request)
                }
                Begun::Never => std::future::pending().await,
                Begun::Panic(message) => fail(message),
                // A dropped handle never answers.
                Begun::Held(answer) => match answer.await {
                    Ok(answer) => answer,
                    Err(_) => std::future::pending().await,
                },
            };
            flight.finish();
            answer
        }
    }

    /// Counts a call as started and takes its step.
    fn begin(&self, request: &Q) -> Begun<Q, A>
    where
        Q: Clone,
    {
        let mut state = self.state();
        state.requests.push(request.clone());
        state.started.push(now());
        state.in_flight += 1;
        state.most_in_flight = state.most_in_flight.max(state.in_flight);
        match state.steps.pop_front() {
            Some(Step::After(delay, answer)) => Begun::Answer(delay, answer),
            Some(Step::Never) => Begun::Never,
            Some(Step::Panic(message)) => Begun::Panic(message),
            Some(Step::Held) => {
                let (sender, receiver) = oneshot::channel();
                state.held.push_back(Held(sender));
                self.0.held.notify_one();
                Begun::Held(receiver)
            }
            None => match state.otherwise.clone() {
                Some(answer) => Begun::Answer(Duration::ZERO, Box::new(move |request| answer(request))),
                None => Begun::Panic("the script has no step for this call"),
            },
        }
    }

    /// Waits for the next call that is held; the oldest comes first.
    ///
    /// # Cancel safety
    /// No held call is lost when the future is dropped.
    pub async fn held(&self) -> Held<A> {
        loop {
            if let Some(held) = self.state().held.pop_front() {
                return held;
            }
            self.0.held.notified().await;
        }
    }

    /// The requests of all calls so far, in order of their start.
    #[must_use]
    pub fn requests(&self) -> Vec<Q>
    where
        Q: Clone,
    {
        self.state().requests.clone()
    }

    /// When each call started.
    #[must_use]
    pub fn started(&self) -> Vec<Instant> {
        self.state().started.clone()
    }

    /// How many calls were started.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.state().started.len()
    }

    /// How many calls are neither answered nor dropped.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.state().in_flight
    }

    /// The most calls that were in flight at one time.
    #[must_use]
    pub fn most_in_flight(&self) -> usize {
        self.state().most_in_flight
    }

    /// How many calls were answered.
    #[must_use]
    pub fn finished(&self) -> usize {
        self.state().finished
    }

    /// How many calls were dropped, or panicked, before their answer.
    #[must_use]
    pub fn cancelled(&self) -> usize {
        self.state().cancelled
    }

    /// How many steps are left.
    #[must_use]
    pub fn steps_left(&self) -> usize {
        self.state().steps.len()
    }

    fn state(&self) -> MutexGuard<'_, State<Q, A>> {
        self.0.state()
    }
}

impl<Q, A> Shared<Q, A> {
    fn state(&self) -> MutexGuard<'_, State<Q, A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a call that has begun will do.
enum Begun<Q, A> {
    Answer(Duration, AnswerOnce<Q, A>),
    Never,
    Panic(&'static str),
    Held(oneshot::Receiver<A>),
}

/// Counts how a call ended.
struct Flight<Q, A> {
    script: Script<Q, A>,
    finished: bool,
}

impl<Q, A> Flight<Q, A> {
    fn finish(mut self) {
        self.finished = true;
    }
}

impl<Q, A> Drop for Flight<Q, A> {
    fn drop(&mut self) {
        let mut state = self.script.0.state();
        state.in_flight -= 1;
        if self.finished { state.finished += 1 } else { state.cancelled += 1 }
    }
}

/// A call that waits for its answer. Dropping it leaves the call without one for ever.
#[must_use = "the call waits until it is answered"]
#[derive(Debug)]
pub struct Held<A>(oneshot::Sender<A>);

impl<A> Held<A> {
    /// Answers the call. Says whether somebody still waited.
    pub fn answer(self, answer: A) -> bool {
        self.0.send(answer).is_ok()
    }

    /// Whether the call has been dropped.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.is_closed()
    }
}

#[expect(clippy::panic, reason = "a script that is told to panic does")]
fn fail(message: &str) -> ! {
    panic!("{message}")
}

impl<Q, A> Clone for Script<Q, A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<Q: 'static, A: 'static> Default for Script<Q, A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Q, A> fmt::Debug for Script<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state();
        f.debug_struct("Script")
            .field("steps_left", &state.steps.len())
            .field("calls", &state.started.len())
            .field("in_flight", &state.in_flight)
            .finish()
    }
}
