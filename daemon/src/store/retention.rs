//! What is too old or too much goes. What is not closed stays.

use rusqlite::{Connection, params};

use super::Limits;
use super::write::signed;
use crate::incident::WallTime;

/// Incidents that are removed at once while the file is too large.
const STEP: i64 = 64;

/// Pages that are given back to the file system at once.
const VACUUM_PAGES: i64 = 16_384;

/// Removes closed incidents by age, then the oldest by size.
pub(super) fn enforce(
    connection: &mut Connection,
    limits: Limits,
    now: WallTime,
) -> rusqlite::Result<()> {
    let oldest = now.before(limits.keep).to_string();
    connection.execute(
        "DELETE FROM incidents WHERE status = 'closed' AND updated < ?",
        params![oldest],
    )?;
    // Messages of alerts that nobody will change any more.
    connection.execute("DELETE FROM alert_messages WHERE updated < ?", params![oldest])?;
    while used_bytes(connection)? > signed(limits.max_bytes) {
        let removed = connection.execute(
            "DELETE FROM incidents WHERE id IN (SELECT id FROM incidents WHERE status = 'closed' \
             ORDER BY updated LIMIT ?)",
            params![STEP],
        )?;
        if removed == 0 {
            break;
        }
    }
    // One row a page that was given back.
    let mut vacuum = connection.prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// Bytes of the file that are in use.
fn used_bytes(connection: &Connection) -> rusqlite::Result<i64> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    Ok((pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?)
}
