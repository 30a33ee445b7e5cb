//! Finding whole records in the blocks: one, or a stretch of them.

use redb::{ReadableTable, StorageError};

use super::block::RecordBlock;
use super::codec::RecordView;
use crate::Offset;

/// What `look` sees in the record at an offset, when it is there and whole.
pub(super) fn view_at<T>(
    blocks: &impl ReadableTable<Offset, &'static [u8]>,
    offset: Offset,
    look: impl FnOnce(RecordView<'_>) -> T,
) -> Result<Option<T>, StorageError> {
    let Some(entry) = blocks.range(offset..)?.next() else {
        return Ok(None);
    };
    let (last, bytes) = entry?;
    Ok(RecordBlock::decode(last.value(), bytes.value())
        .ok()
        .and_then(|block| block.record(offset))
        .and_then(|bytes| RecordView::decode(offset, bytes).ok())
        .map(look))
}

/// Shows the whole records of a stretch of the log.
pub(super) fn for_each_record(
    blocks: &impl ReadableTable<Offset, &'static [u8]>,
    from: Offset,
    upto: Offset,
    mut show: impl FnMut(Offset, RecordView<'_>),
) -> Result<(), StorageError> {
    for entry in blocks.range(from..)? {
        let (last, bytes) = entry?;
        let Ok(block) = RecordBlock::decode(last.value(), bytes.value()) else {
            continue;
        };
        for (offset, bytes) in block.records_from(from) {
            if offset > upto {
                return Ok(());
            }
            if let Ok(view) = RecordView::decode(offset, bytes) {
                show(offset, view);
            }
        }
    }
    Ok(())
}
