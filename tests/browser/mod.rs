//! The console in a real browser, acting as an analyst would: headless Chromium, driven over WebDriver, against a real
//! process on loopback. Without Chromium, its driver and axe-core (`VEDETTE_BROWSER`) each test says that it is skipped.

mod act;
mod analyst;
mod closed_loop;
mod content;
pub mod demo;
mod driver;
mod ease;
mod focus;
mod hostile;
mod hostile_acts;
mod hunt;
mod keys;
mod line;
mod looks;
mod paint;
mod refused;
mod sign_in;
mod single_sign_on;
mod stale;
mod tabs;
