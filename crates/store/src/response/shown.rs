//! What was shown to others that fetch, and may still be held by one of them.
//!
//! In: what is about to be shown. Out: the same after a restart. Invariant: a row stays until its latest end, also when what it tells of is
//! taken back, since nobody says that they let go.

use vedette_event::Micros;

use crate::{error::Error, model::Held, store::Store};

/// Rows that one transaction writes, so that others get their turn.
const ROWS: usize = 512;

impl Store {
    /// Notes what is about to be shown by a connector, and forgets what is over.
    pub async fn note_shown(&self, connector: &str, shown: &[Held], now: Micros) -> Result<(), Error> {
        let mut tx = self.begin_as_engine().await?;
        let over = sqlx::query("delete from held where connector = $1 and until <= $2");
        tx.run(over.bind(connector).bind(now.0)).await?;
        tx.commit().await?;
        for some in shown.chunks(ROWS) {
            let mut tx = self.begin_as_engine().await?;
            for Held { action, target, until } in some {
                let put = sqlx::query(
                    "insert into held (connector, action, target, until) values ($1, $2, $3, $4) \
                     on conflict (connector, action, target) do update set \
                     until = case when excluded.until > held.until then excluded.until else held.until end",
                );
                tx.run(put.bind(connector).bind(action).bind(target).bind(until.0)).await?;
            }
            tx.commit().await?;
        }
        Ok(())
    }
}
