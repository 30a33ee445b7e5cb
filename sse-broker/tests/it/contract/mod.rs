//! Every promise of the trait, for every backend.

pub(crate) mod appending;
pub(crate) mod epochs;
pub(crate) mod ids;
pub(crate) mod reading;
pub(crate) mod retention;
pub(crate) mod snapshots;
pub(crate) mod tail;

use std::sync::Arc;

use sse_broker::{Broker, Epoch, Retention};

/// Makes a broker for a test: what it needs (a folder, say) lives as long as the `Self` does.
pub(crate) trait Backend {
    /// An empty log.
    fn new(retention: Retention) -> Self;

    /// The broker.
    fn broker(&self) -> Arc<dyn Broker>;

    /// Closes the log and opens it again, where that keeps what it holds.
    fn reopen(&mut self) -> Reopened;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reopened {
    /// Everything is still there.
    Kept,
    /// This backend forgets, so it was left open.
    LeftOpen,
}

/// The suite for one backend, each promise a test.
macro_rules! contract {
    ($backend:ty: $($idea:ident { $($promise:ident,)* })*) => {
        $($(
            #[test]
            fn $promise() {
                $crate::support::block_on($crate::contract::$idea::$promise::<$backend>());
            }
        )*)*

        #[test]
        fn any_sequence_of_operations_does_what_the_model_says() {
            $crate::model::check::<$backend>();
        }
    };
    ($backend:ty) => {
        $crate::contract::contract! { $backend:
            appending {
                offsets_begin_at_one_and_have_no_holes,
                the_order_of_the_calls_is_the_order_of_the_log,
                a_dropped_answer_does_not_drop_the_records,
                an_append_of_nothing_stores_nothing,
                many_publishers_at_once_get_distinct_offsets_in_their_own_order,
                a_closed_log_takes_nothing_more,
            }
            tail {
                the_tail_hears_every_record_once_and_before_the_publisher,
                what_the_tail_hears_can_be_read,
                the_tail_may_append_to_the_broker_itself,
            }
            ids {
                a_publishers_id_is_stored_once,
                an_id_is_compared_by_its_whole_content,
                an_id_twice_in_one_append_is_stored_once,
                the_empty_id_names_nothing,
                a_duplicate_leaves_no_hole_between_its_neighbours,
                a_trimmed_id_may_be_used_again,
            }
            reading {
                everything_about_a_record_comes_back,
                what_is_rendered_is_what_is_read,
                a_rendered_page_ends_at_its_bounds,
                a_page_ends_at_its_bounds_and_says_how_far_it_reaches,
                a_page_has_one_record_at_least,
                a_reader_of_several_topics_gets_each_record_once_in_order,
                a_topic_is_not_the_beginning_of_another,
            }
            snapshots {
                snapshots_change_with_their_record_and_outlive_it,
                a_record_is_stored_only_on_the_snapshot_that_it_expects,
                an_append_with_a_stale_record_stores_nothing_of_itself,
                publishers_that_compare_and_append_lose_no_update,
            }
            epochs {
                another_epoch_is_told_between_the_records_of_the_two,
                a_position_of_the_epoch_before_is_answered_by_a_gap,
                the_epoch_may_change_while_many_publish,
            }
            retention {
                count_and_bytes_are_kept_as_records_arrive,
                age_is_kept_when_the_time_is_told,
                a_page_says_when_what_was_asked_for_is_gone,
                a_replay_that_races_with_retention_has_no_silent_hole,
                the_newest_of_each_topic_is_kept_and_a_replaced_value_is_no_gap,
                only_readers_of_what_a_rule_has_taken_hear_of_it,
                a_record_of_several_topics_is_kept_while_one_of_them_keeps_it,
                an_id_that_a_rule_has_taken_is_not_stored_again,
                a_superseded_value_is_not_read_whether_or_not_it_was_trimmed,
                what_is_beyond_a_rules_number_is_not_read_whether_or_not_it_was_trimmed,
                what_is_too_old_is_not_read_whether_or_not_it_was_trimmed,
                a_topic_of_one_value_has_one_at_any_moment,
                as_time_goes_on_readers_get_less_without_any_trimming,
                a_broker_says_which_topics_have_a_rule,
                where_the_clock_jumped_the_later_time_counts_unless_it_is_to_come,
            }
        }
    };
}

pub(crate) use contract;

/// An epoch for tests that compare positions.
pub(crate) const EPOCH: Epoch = Epoch(0xfeed);
