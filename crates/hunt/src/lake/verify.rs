//! Whether a file is what the catalog says.

use vedette_store::model::LakeFile;

use super::{LakeError, Place, reading::Reading};

/// Rows that are read at once.
const ROWS: usize = 1_024;

/// Reads a file of the catalog from its first byte to its last.
///
/// # Errors
/// What is wrong with it.
pub fn verify(place: impl Into<Place>, file: &LakeFile) -> Result<(), LakeError> {
    let place = place.into();
    let damaged = |found: String| Err(LakeError::Damaged { path: file.path.clone(), found });
    if let Place::Bucket(bucket) = &place {
        let bytes = bucket.wait(bucket.length(&file.path))?;
        if bytes != file.bytes {
            return damaged(format!("{bytes} bytes long and not {}", file.bytes));
        }
    }
    let mut reading = Reading::open(&place, file, ROWS, |_| true)?;
    let mut events = 0;
    while let Some(batch) = reading.next()? {
        events += batch.num_rows() as u64;
    }
    if events == file.events {
        Ok(())
    } else {
        damaged(format!("of {events} events and not {}", file.events))
    }
}
