//! Whether a file is what the catalog says.

use std::{fs::File, path::Path};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use vedette_store::model::LakeFile;

use super::{LakeError, is_there};

/// Reads a file of the catalog from its first byte to its last.
///
/// # Errors
/// What is wrong with it.
pub fn verify(folder: &Path, file: &LakeFile) -> Result<(), LakeError> {
    let damaged = |found: String| LakeError::Damaged { path: file.path.clone(), found };
    is_there(folder, file)?;
    let opened = File::open(folder.join(&file.path)).map_err(|e| damaged(e.to_string()))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(opened).and_then(|builder| builder.build());
    let mut events = 0;
    for batch in reader.map_err(|e| damaged(e.to_string()))? {
        events += batch.map_err(|e| damaged(e.to_string()))?.num_rows() as u64;
    }
    if events == file.events {
        Ok(())
    } else {
        Err(damaged(format!("of {events} events and not {}", file.events)))
    }
}
