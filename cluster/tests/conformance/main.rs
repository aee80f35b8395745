//! The engine contract as one suite of tests, run on every engine.
//!
//! A test gets an empty [`Cluster`] and starts as many processes on it as it needs. It does not know the kind
//! of engine. The list below names each test once.

mod bus;
mod cluster;
mod commit;
mod ended_jobs;
mod kv;
mod locks;
mod queue;
mod server;
mod watch;

use cluster::Cluster;

/// Runs every test on one kind of cluster.
macro_rules! suite {
    ($engine:ident, $cluster:expr) => {
        mod $engine {
            use super::Cluster;

            cases! { $cluster;
                bus {
                    a_message_reaches_every_process_that_listens_and_nobody_else
                    a_subscription_hears_from_the_moment_it_returns
                    patterns_stand_for_one_token_or_for_the_rest
                    a_published_wildcard_is_only_a_character
                    messages_of_one_publisher_arrive_in_order
                    each_group_hears_a_message_once
                    a_request_carries_its_headers_there_and_back
                    a_question_that_nobody_hears_is_answered_at_once
                    a_question_that_nobody_answers_ends_with_its_deadline
                    a_dropped_subscription_answers_nothing
                    payloads_have_a_limit
                    a_slow_reader_is_told_where_messages_are_missing
                    awkward_identities_are_ordinary_subjects
                    the_link_is_up
                }
                kv {
                    what_is_written_is_what_another_process_reads
                    an_expectation_that_does_not_hold_writes_nothing
                    a_revision_grows_and_is_never_reused
                    of_many_writers_one_wins_each_revision
                    of_many_creators_one_wins
                    deleting_what_is_absent_succeeds_unless_it_was_expected
                    a_key_expires_to_the_second_and_may_be_created_again
                    a_renewed_key_lives_on_and_a_put_without_ttl_is_permanent
                    values_metas_keys_and_ttls_have_limits
                    a_list_is_complete_and_in_key_order
                    a_scan_is_in_the_order_of_writing
                    the_operation_id_tells_whose_write_is_there
                    awkward_identities_are_ordinary_keys
                    buckets_are_separate
                }
                commit {
                    a_commit_is_all_or_nothing
                    a_commit_is_fenced_by_its_checks
                    commits_have_limits
                }
                watch {
                    one_watch_shows_the_keys_below_several_prefixes_and_no_other
                    a_watch_yields_what_stands_then_live_then_changes
                    a_meta_watch_carries_no_values
                    a_watch_hears_only_what_is_below_its_prefix
                    a_watch_tells_deletion_from_expiry
                    a_watch_sees_expiry_on_time
                    a_watch_sees_commits
                    a_watch_starts_with_everything_at_any_size
                    every_watch_ends_at_the_truth_under_concurrent_writes
                    a_ninth_watch_is_a_design_fault
                }
                queue {
                    a_hint_comes_until_it_is_settled
                    a_pull_takes_no_more_than_its_free_slots
                    a_pull_waits_for_the_first_hint_and_no_longer_than_asked
                    an_abandoned_hint_comes_again_with_a_higher_attempt
                    a_touched_hint_stays_with_its_worker
                    a_retried_hint_comes_again_not_before_its_time
                    a_delayed_hint_comes_not_before_its_time
                    routes_are_separate
                    a_pattern_stands_for_all_its_routes
                    a_delivery_tells_whether_more_is_ready
                    a_pull_that_is_dropped_loses_no_hint
                    the_depth_counts_what_is_not_settled
                    settling_twice_is_settling_once
                    many_workers_settle_everything
                    the_same_id_may_be_pushed_twice
                    hints_have_limits
                    awkward_identities_are_ordinary_ids
                    awkward_identities_are_ordinary_routes
                }
                ended_jobs {
                    ended_jobs_are_kept_by_their_state
                }
                locks {
                    a_lock_passes_from_holder_to_holder_with_growing_tokens
                }
            }
        }
    };
}

macro_rules! cases {
    ($cluster:expr; $($file:ident { $($case:ident)+ })+) => {$(
        mod $file {
            use super::Cluster;

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let cluster: Cluster = $cluster(stringify!($case)).await;
                    let test = crate::$file::$case(&cluster);
                    tokio::time::timeout(crate::cluster::PATIENCE, test).await.expect("the test ends");
                }
            )+
        }
    )+};
}

suite!(memory, Cluster::memory);
suite!(kept, Cluster::kept);
suite!(faultless, Cluster::faultless);
suite!(nats, Cluster::nats);
