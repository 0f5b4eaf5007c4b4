//! The live page in a real browser, one-time link and all.

use crate::browser::Browser;
use crate::management::{ANY, BEARER, Cache, TOKEN};
use crate::support::{fetch, get, text};
use axum::Router;
use axum::routing::get as on_get;
use perf_core::Health;
use perf_http::{Auth, HttpMetrics, Management, ManagementServer};
use perf_metrics::Metrics;
use std::sync::Arc;
use std::time::Duration;

/// What a program that shows names as markup would run.
const HOSTILE: &str =
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>\u{202e}\u{1b}[31m";

/// A service under load for as long as it is held, with a component of a hostile name.
struct Host {
    server: ManagementServer,
    load: tokio::task::JoinHandle<()>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.load.abort();
    }
}

impl Host {
    async fn start() -> Self {
        let http = HttpMetrics::new("shop");
        let metrics = Metrics::builder().build().unwrap();
        metrics.register(Arc::new(http.clone())).unwrap().keep();
        metrics.register(Arc::new(Cache(HOSTILE, Health::down(HOSTILE)))).unwrap().keep();
        metrics.register(Arc::new(Cache("users", Health::up()))).unwrap().keep();
        let management =
            Management::builder(metrics).auth(Auth::token(TOKEN)).service("shop", "1.2.3").address(ANY);
        let server = management.build().unwrap().start().await.unwrap();
        let app = Router::new()
            .route("/orders/{id}", on_get(|| async { tokio::time::sleep(Duration::from_millis(3)).await }))
            .route("/search", on_get(|| async { tokio::time::sleep(Duration::from_millis(25)).await }))
            .layer(http.layer());
        let load = tokio::spawn(async move {
            loop {
                for path in ["/orders/1", "/orders/2", "/search", "/orders/3"] {
                    drop(text(get(&app, path).await).await);
                }
            }
        });
        Self { server, load }
    }

    /// A browser that followed a one-time link, and the page when it has drawn a few ticks.
    async fn watched(&self, path: &str) -> Browser {
        let mut browser = Browser::start().await;
        let link = self.server.login_url().unwrap().replace("/login", path);
        browser.open(&link).await;
        browser.until("document.getElementById('beacon-text')?.textContent === 'live'").await;
        browser.until("(document.querySelector('#traffic-chart .line')?.getAttribute('d') ?? '').split('L').length > 3").await;
        browser
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_verdict_signals_and_components_of_a_service_under_load() {
    let host = Host::start().await;
    let mut page = host.watched("/login").await;
    assert_eq!(page.text("service").await, "shop");
    assert_eq!(page.text("verdict-word").await, "degraded");
    let rate: f64 = page.text("traffic-value").await.parse().unwrap();
    assert!(rate > 0.0, "{rate}");
    let latency = page.text("latency-value").await;
    assert!(latency.ends_with(" ms"), "{latency}");
    assert_eq!(page.text("errors-value").await, "0");
    let components = page.text("components-rows").await;
    assert!(components.contains("users"), "{components}");
    let routes = page.text("routes-rows").await;
    assert!(routes.contains("GET /orders/{id}") && routes.contains("GET /search"), "{routes}");
    // Latency is drawn as a heat map, which has colour where requests were.
    let painted = "(() => { const c = document.getElementById('latency-chart'); \
                   const { data } = c.getContext('2d').getImageData(0, 0, c.width, c.height); \
                   return data.filter((alpha, n) => n % 4 === 3 && alpha > 20).length; })()";
    assert!(page.value(painted).await.as_u64().unwrap() > 50);
    assert!(page.text("latency-scale").await.contains("logarithmic"));
    // The link is gone from the address, and cannot be copied from there.
    assert_eq!(page.value("location.search").await, "");
    assert!(page.complaints.is_empty(), "{:?}", page.complaints);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_names_are_text() {
    let host = Host::start().await;
    let mut page = host.watched("/login").await;
    let components = page.text("components-rows").await;
    assert!(components.contains("<img src=x onerror="), "{components}");
    assert!(
        !components.contains(['\u{202e}', '\u{1b}']),
        "what turns the writing round is shown as a sign: {components}"
    );
    assert_eq!(page.value("document.querySelectorAll('img, main script, header script').length").await, 0);
    assert!(page.value("document.title").await.as_str().unwrap().ends_with(" shop"));
    assert!(page.complaints.is_empty(), "{:?}", page.complaints);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policy_stops_a_script_that_got_in_all_the_same() {
    let host = Host::start().await;
    let mut page = host.watched("/login").await;
    page.value("{ const s = document.createElement('script'); s.textContent = 'window.owned = 1'; document.body.append(s); }")
        .await;
    page.value("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.owned = 2\">')")
        .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(page.value("typeof window.owned").await, "undefined");
    assert!(
        page.complaints.iter().any(|line| line.contains("Content Security Policy")),
        "{:?}",
        page.complaints
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_works_below_a_base_path() {
    let host = Host::start().await;
    let mut page = host.watched("/_perf/login").await;
    assert_eq!(page.value("location.pathname").await, "/_perf/");
    assert!(page.complaints.is_empty(), "{:?}", page.complaints);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_session_the_browser_says_what_to_do() {
    let host = Host::start().await;
    let mut page = Browser::start().await;
    page.open(&format!("http://{}/", host.server.address())).await;
    let shown = page.value("document.body.innerText").await;
    assert!(shown.as_str().unwrap().contains("This page is locked"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_whose_stream_breaks_looks_frozen() {
    let mut host = Host::start().await;
    let mut page = host.watched("/login").await;
    let another = Management::builder(Metrics::builder().build().unwrap()).address(ANY).build().unwrap();
    let old = std::mem::replace(&mut host.server, another.start().await.unwrap());
    old.shutdown().await;
    page.until("document.getElementById('beacon').dataset.state === 'stale'").await;
    assert_eq!(page.value("document.body.dataset.stale").await, "true");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hidden_page_stops_listening_and_comes_back_whole() {
    let host = Host::start().await;
    let mut page = host.watched("/login").await;
    // The count on the overview is that of its last tick.
    let viewers = async |expected: u64| {
        let count =
            async || fetch(host.server.address(), "/overview", &[BEARER]).await.json()["viewers"].clone();
        let reached = async {
            while count().await != expected {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), reached).await;
        assert!(waited.is_ok(), "{} pages watch, not {expected}", count().await);
    };
    viewers(1).await;
    let hide = |hidden: bool| {
        format!(
            "Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }}); \
             document.dispatchEvent(new Event('visibilitychange'))"
        )
    };
    page.value(&hide(true)).await;
    viewers(0).await;
    page.value(&hide(false)).await;
    page.until("document.getElementById('beacon-text').textContent === 'live'").await;
    viewers(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keyboard_reaches_everything_and_a_screen_reader_hears_changes_only() {
    let host = Host::start().await;
    let mut page = host.watched("/login").await;
    page.press("Tab").await;
    assert_eq!(page.value("document.activeElement.className").await, "skip");
    page.press("Tab").await;
    assert_eq!(page.value("document.activeElement.getAttribute('role')").await, "region");
    let watch = "window.heard = 0; new MutationObserver(() => { window.heard += 1; }).observe(\
                 document.getElementById('announcer'), { childList: true, characterData: true, subtree: true })";
    page.value(&format!("{{ {watch} }}")).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(page.value("window.heard").await, 0, "three ticks, and the verdict is the same");
    let unnamed = "[...document.querySelectorAll('svg, canvas, section, article, [role=region]')]\
                   .filter((node) => !node.getAttribute('aria-label') && !node.getAttribute('aria-labelledby')).length";
    assert_eq!(page.value(unnamed).await, 0);
    assert_eq!(page.value("document.querySelectorAll('th:not([scope])').length").await, 0);
}

/// The smallest contrast of text with what is behind it, over every element that shows text.
const CONTRAST: &str = "(() => {
    const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
        .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = (node) => {
        for (let at = node; at; at = at.parentElement) {
            const colour = rgb(getComputedStyle(at).backgroundColor);
            if (colour.length === 3 || colour[3] > 0) return colour;
        }
        return [255, 255, 255];
    };
    let worst = [99, ''];
    for (const node of document.querySelectorAll('body *')) {
        if (![...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim())) continue;
        const [a, b] = [light(rgb(getComputedStyle(node).color)), light(behind(node))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < worst[0]) worst = [ratio, node.outerHTML.slice(0, 80)];
    }
    return worst;
})()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_is_readable_in_light_and_dark_and_on_a_phone() {
    let host = Host::start().await;
    let mut page = host.watched("/login").await;
    // Whoever wants to look at the pictures says where they should stay.
    let kept = std::env::var_os("PERF_HTTP_SCREENSHOTS").map(std::path::PathBuf::from);
    for (name, width, height, scheme) in
        [("light", 1440, 900, "light"), ("dark", 1440, 900, "dark"), ("phone", 390, 844, "light")]
    {
        let picture = page.picture(width, height, scheme).await;
        assert!(picture.starts_with(b"\x89PNG") && picture.len() > 5_000, "{name}: {} bytes", picture.len());
        if let Some(folder) = &kept {
            std::fs::write(folder.join(format!("{name}.png")), picture).unwrap();
        }
        let worst = page.value(CONTRAST).await;
        assert!(worst[0].as_f64().unwrap() >= 4.5, "{name}: {worst}");
        let wider = page.value("document.documentElement.scrollWidth - window.innerWidth").await;
        assert!(wider.as_i64().unwrap() <= 0, "{name} scrolls sideways by {wider}");
    }
    assert!(page.complaints.is_empty(), "{:?}", page.complaints);
}
