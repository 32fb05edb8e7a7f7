//! What goes on when nothing is wrong: customers, traders, crawlers, staff.

use serde_json::json;
use vedette_event::Micros;

use crate::{
    Record,
    random::Random,
    wire::{self, Request, Session},
};

const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
    "ExchangeApp/7.4 (Android 16)",
];
const PATHS: [&str; 7] =
    ["/", "/markets", "/trade/BTC-USD", "/api/v1/ticker", "/login", "/account", "/static/app.js"];
const MARKETS: [&str; 4] = ["BTC-USD", "ETH-USD", "SOL-USD", "XRP-EUR"];

/// A customer's address: one of about 65,000, the same for the same customer.
pub fn customer_address(customer: u64) -> String {
    format!("85.{}.{}.{}", 200 + customer % 8, customer / 250 % 250, 1 + customer % 250)
}

/// One record of ordinary traffic.
pub fn record(random: &mut Random, time: Micros) -> Record {
    match random.below(10) {
        0..=3 => firewall(random, time),
        4..=6 => web(random, time),
        _ => api(random, time),
    }
}

fn firewall(random: &mut Random, time: Micros) -> Record {
    let customer = random.below(4_000);
    let address = customer_address(customer);
    let staff = random.chance(20);
    let inside = format!("10.30.{}.{}", random.below(8), 1 + random.below(250));
    // Stray packets to closed ports are part of every day; no address sends many of them.
    let refused = !staff && random.chance(4);
    let session = Session {
        source: if staff { &inside } else { &address },
        destination: if staff { "198.51.100.80" } else { "10.20.0.5" },
        source_port: 1_024 + random.below(60_000),
        port: if refused { 1 + random.below(1_024) } else { 443 },
        from: if staff { "office" } else { "untrust" },
        to: if staff { "untrust" } else { "dmz" },
        application: if refused { "not-applicable" } else { "ssl" },
        action: if refused { "deny" } else { "allow" },
        bytes: 400 + random.below(60_000),
    };
    wire::traffic(time, &session, None)
}

fn web(random: &mut Random, time: Micros) -> Record {
    let address = customer_address(random.below(4_000));
    let query = if random.chance(30) { format!("page={}", random.below(40)) } else { String::new() };
    let request = Request {
        client: &address,
        method: "GET",
        path: random.pick(&PATHS),
        query: &query,
        agent: random.pick(&AGENTS),
        blocked: None,
    };
    wire::waf(time, &request, random.bits(), None)
}

fn api(random: &mut Random, time: Micros) -> Record {
    let customer = random.below(4_000);
    let mut more = serde_json::Map::new();
    let mut put = |name: &str, value: serde_json::Value| {
        more.insert(name.to_owned(), value);
    };
    put("user_id", format!("u-{customer}").into());
    put("username", format!("customer{customer}").into());
    put("client_ip", customer_address(customer).into());
    put("session_id", format!("s-{:x}", random.bits() >> 32).into());
    let (action, outcome) = match random.below(100) {
        0..=69 => ("order_place", "success"),
        70..=89 => ("order_cancel", "success"),
        90..=96 => ("login", "success"),
        97 => ("login", "failure"),
        98 => ("mfa_challenge", "success"),
        _ => ("withdraw_request", "success"),
    };
    match action {
        "order_place" | "order_cancel" => {
            put("api_key_id", format!("k-{customer}").into());
            put("signature_ok", true.into());
            put("order_id", format!("o-{:x}", random.bits() >> 24).into());
            put("market", random.pick(&MARKETS).into());
        }
        "withdraw_request" => {
            put("withdrawal", json!({"asset": "USDT", "amount_usd": 50 + random.below(5_000)}));
        }
        _ => put("auth_method", "password".into()),
    }
    wire::api(time, action, outcome, more.into(), None)
}
