use super::{Controller, Sample, SizingConfig, SizingReason, erlang_c};
use perf_core::Rng;
use perf_core::time::{self, Duration};

#[test]
fn erlang_agrees_with_the_published_figures() {
    let table = [
        (8, 5.0, 0.167),
        (10, 5.0, 0.036),
        (14, 10.0, 0.174),
        (17, 10.0, 0.031),
        (25, 20.0, 0.209),
        (29, 20.0, 0.040),
        (58, 50.0, 0.194),
        (65, 50.0, 0.027),
    ];
    for (servers, load, waits) in table {
        assert!(
            (erlang_c(servers, load) - waits).abs() < 0.001,
            "{servers} at {load}: {}",
            erlang_c(servers, load)
        );
    }
    assert_eq!((erlang_c(4, 4.0), erlang_c(0, 1.0), erlang_c(4, 0.0)), (1.0, 1.0, 0.0));
}

/// A server that holds each lease for `hold(size)` seconds, asked `rate` times a second, watched for some ticks.
struct World {
    controller: Controller,
    size: usize,
    acquired: u64,
    rng: Rng,
    now: time::Instant,
}

#[expect(clippy::expect_used, reason = "a helper of tests fails the way tests do")]
impl World {
    fn new(max: usize) -> Self {
        let config = SizingConfig { max, ..SizingConfig::default() };
        let controller = Controller::new(config).expect("the defaults are valid");
        Self { controller, size: 4, acquired: 0, rng: Rng::seeded(3), now: time::now() }
    }

    /// Poisson arrivals by counting exponential gaps.
    fn arrivals(&mut self, rate: f64) -> u64 {
        let (mut at, mut count) = (0.0, 0);
        loop {
            at += self.rng.exponential(1.0 / rate);
            if at >= 1.0 {
                return count;
            }
            count += 1;
        }
    }

    fn tick(&mut self, rate: f64, hold: impl Fn(usize) -> f64) -> SizingReason {
        let held = hold(self.size);
        let possible = (self.size as f64 / held) as u64;
        let served = self.arrivals(rate).min(possible);
        self.acquired += served;
        self.now += Duration::from_secs(1);
        let busy = served as f64 * held;
        let full = busy >= self.size as f64 - 0.5;
        let advice = self.controller.observe(
            Sample {
                acquired: self.acquired,
                mean_hold: Duration::from_secs_f64(held),
                wait_p95: Duration::from_millis(if full { 200 } else { 0 }),
                size: self.size,
                idle: (self.size as f64 - busy).max(0.0) as usize,
                nested: 0,
            },
            self.now,
        );
        self.size = advice.target;
        advice.reason
    }
}

#[test]
fn a_fourfold_step_is_followed_within_ten_ticks() {
    let mut world = World::new(200);
    for _ in 0..120 {
        world.tick(100.0, |_| 0.05);
    }
    let before = world.size;
    assert!((5..=14).contains(&before), "{before} connections for a load of 5");
    for _ in 0..10 {
        world.tick(400.0, |_| 0.05);
    }
    let needed = (20.0 + 1.5 * 20.0_f64.sqrt()).ceil() as usize;
    assert!(world.size + 2 >= needed, "{} of {needed} after ten ticks", world.size);
    assert!(world.size <= 2 * needed, "{} overshoots {needed}", world.size);
}

#[test]
fn a_steady_load_does_not_move_the_size_to_and_fro() {
    let mut world = World::new(200);
    for _ in 0..180 {
        world.tick(400.0, |_| 0.05);
    }
    let (mut turns, mut direction, mut last) = (0, 0, world.size);
    for _ in 0..300 {
        world.tick(400.0, |_| 0.05);
        let moved = world.size as i64 - last as i64;
        if moved.signum() != 0 && moved.signum() != direction {
            turns += 1;
            direction = moved.signum();
        }
        last = world.size;
    }
    assert!(turns <= 10, "{turns} changes of direction in five minutes");
}

#[test]
fn beyond_the_knee_of_the_server_the_pool_steps_back() {
    let mut world = World::new(100);
    let knee = |size: usize| if size > 20 { 0.1 } else { 0.05 };
    let mut above = 0;
    for _ in 0..300 {
        world.tick(900.0, knee);
        above += u32::from(world.size > 20);
    }
    assert!(above <= 60, "above the knee for {above} of 300 ticks");
    assert!(world.size >= 10, "{}", world.size);
}

#[test]
fn what_is_idle_for_the_whole_window_is_let_go_one_at_a_time() {
    let mut world = World::new(50);
    world.size = 40;
    let mut reasons = Vec::new();
    for _ in 0..200 {
        let before = world.size;
        reasons.push(world.tick(40.0, |_| 0.05));
        assert!(world.size + 1 >= before);
    }
    assert!(reasons[..60].iter().all(|reason| *reason == SizingReason::Steady));
    assert!((5..=10).contains(&world.size), "{}", world.size);
}

#[test]
fn limits_are_kept_and_named() {
    let config = SizingConfig::default().share_of(100, 80, 4);
    assert_eq!(config.max, 20);
    assert!(SizingConfig { min: 0, ..SizingConfig::default() }.validate().is_err());
    assert!(SizingConfig { beta: f64::NAN, ..SizingConfig::default() }.validate().is_err());
    let mut controller = Controller::new(config).unwrap();
    let advice = controller.observe(Sample { size: 90, ..Sample::default() }, time::now());
    assert_eq!(advice.target, 20);
}

#[test]
fn nested_acquires_set_a_floor() {
    let mut controller = Controller::new(SizingConfig::default()).unwrap();
    let (start, mut size) = (time::now(), 4);
    for second in 0..200_u64 {
        let nested = if second < 10 { 0 } else { 1 };
        let sample = Sample { acquired: second, size, nested, ..Sample::default() };
        let advice = controller.observe(sample, start + Duration::from_secs(second));
        if second == 10 {
            assert_eq!((advice.target, advice.reason), (5, SizingReason::NestedAcquires));
        }
        size = advice.target;
    }
    assert_eq!(size, 5, "idle as it is, it does not shrink below the floor");
}
