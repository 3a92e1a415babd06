"""The 29 rows: what a receiver must stand, by which figures, and the tests that reach them."""

from __future__ import annotations

from typing import Final

from bench.reliability.row import PASSED, Row, at_least, at_most, no

LIVE: Final = "tests/acceptance"

ROWS: Final = (
    Row(
        1,
        "schemathesis, all checks, for each operation with parameters or a body, as nobody and as "
        "each role",
        (at_least(1_000, "examples"),),
        (
            "tests/test_openapi.py::test_every_answer_is_one_of_the_contract",
            "tests/test_openapi.py::test_who_may_not_is_told_so_whatever_he_asks",
        ),
    ),
    Row(
        2,
        "mutated notifications; atheris for 10 minutes on what reads bytes and texts",
        (
            at_least(20_000, "payloads"),
            no("answers of 5xx"),
            at_least(10, "minutes of atheris", total=True),
            no("uncaught"),
        ),
        (
            f"{LIVE}/test_bodies.py::test_recorded_notifications_that_were_damaged_are_no_fault_of_ours",
            "tests/test_fuzz.py::test_atheris_finds_nothing_that_nobody_expects",
        ),
    ),
    Row(
        3,
        "the alerts of awesome-prometheus-alerts: all taken, each matches whom it should",
        (at_least(1_155, "rules"),),
        ("tests/test_replay.py::test_alerts_of_every_rule_are_taken_and_match_whom_they_should",),
        needs="PUBLIC_RULES=DIR",
        lacking="without `PUBLIC_RULES`, a folder with a clone of them, there are only the few "
        "rules of `tests/public_rules`",
    ),
    Row(
        4,
        "two Alertmanagers that do not know each other, the same alerts to three receivers",
        (at_least(100, "episodes"), at_most(1, "actions of one episode")),
        (f"{LIVE}/test_many_machines.py::test_each_alert_is_acted_on_once",),
    ),
    Row(
        5,
        "down for three group_intervals, then up: what still fires is handled once",
        (at_least(1, PASSED),),
        (
            (
                f"{LIVE}/test_with_alertmanager.py"
                "::test_after_three_group_intervals_down_all_that_still_fires_is_handled_once"
            ),
        ),
    ),
    Row(
        6,
        "kill -9, 20 times at each point of a run and in the middle of each action, and at random: "
        "nothing lost, nothing begun twice",
        (
            at_least(25, "points of a run", total=True),
            at_least(500, "kills at random"),
        ),
        (
            f"{LIVE}/test_kill_sweep.py::test_killed_in_the_middle_each_run_ends_as_declared",
            f"{LIVE}/test_crash.py",
        ),
    ),
    Row(
        7,
        "SIGTERM with 50 queued and 5 running",
        (
            at_least(50, "queued"),
            at_least(5, "running"),
            no("posts accepted after SIGTERM"),
            no("lost"),
            no("started twice"),
            at_most(30, "seconds from the last action to the exit"),
        ),
        (f"{LIVE}/test_drain.py::test_sigterm_with_five_running_and_fifty_queued_loses_nothing",),
    ),
    Row(
        8,
        "no room on the disk: 503, dormant, well by itself within 30 s of the room",
        (at_least(13, PASSED), at_most(30, "seconds to recover")),
        (
            f"{LIVE}/test_full_disk.py::test_a_full_disk_is_503_and_loses_nothing_that_was_202",
            (
                f"{LIVE}/test_full_disk.py"
                "::test_a_file_system_gone_read_only_is_503_and_loses_nothing_that_was_202"
            ),
            f"{LIVE}/test_full_disk.py::test_nothing_begins_on_a_full_disk_and_it_does_when_there_is_room",
            (
                f"{LIVE}/test_lost_journal.py"
                "::test_a_start_without_room_serves_says_why_and_becomes_well_by_itself"
            ),
        ),
    ),
    Row(
        9,
        "a damaged journal is found at the start, kept, and the remedy said; a backup of one under "
        "load is restored elsewhere after kill -9",
        (
            at_least(100, PASSED),
            at_least(1_000, "alerts a minute beside a backup"),
            no("lost of what was answered before it"),
            no("acts after a restore that nobody had resumed"),
        ),
        (
            "tests/test_journal.py::test_a_damaged_file_is_found_at_the_start",
            "tests/test_journal.py::test_a_file_that_is_no_database_is_refused",
            f"{LIVE}/test_lost_journal.py::test_a_damaged_file_is_served_and_refused",
            f"{LIVE}/test_backup_live.py",
        ),
    ),
    Row(
        10,
        "steps of the clock, forth and back, and a restart between",
        (at_least(5, PASSED),),
        (f"{LIVE}/test_clock_steps.py",),
    ),
    Row(
        11,
        "actions that hang, ignore TERM, fork away",
        (no("survivors"), at_most(2, "seconds after the deadline")),
        ("tests/test_process.py::test_nothing_survives_the_deadline_by_2_seconds",),
    ),
    Row(
        12,
        "1 GiB of output; binary; too long: the tail is kept",
        (at_most(20, "MiB for 1 GiB of output"),),
        (
            "tests/test_process.py::test_a_gibibyte_of_output_costs_little_memory",
            "tests/test_process.py::test_binary_output_becomes_text_that_can_be_stored",
            "tests/test_process.py::test_a_long_output_keeps_its_head_and_tail",
        ),
    ),
    Row(
        13,
        "a storm of different alerts, in notifications of 50",
        (
            at_least(10_000, "alerts"),
            at_most(5, "seconds until all are accepted"),
            at_most(1, "p99 of an answer, s"),
            at_most(150, "RSS of the worker, MiB"),
            at_most(8, "actions at once"),
        ),
        (f"{LIVE}/test_storm.py::test_a_storm_is_accepted_at_once",),
    ),
    Row(
        14,
        "one alert, posted again and again",
        (
            at_least(100_000, "duplicates"),
            at_most(1, "episodes"),
            at_most(1, "actions"),
            at_most(1, "rows added"),
        ),
        (
            f"{LIVE}/test_storm.py::test_a_flood_of_one_alert_is_one_episode_one_action_and_no_row_more",
        ),
    ),
    Row(
        15,
        "different label sets, all firing",
        (
            at_least(100_000, "label sets"),
            no("series added"),
            at_most(250, "p99 of a scrape, ms"),
        ),
        (f"{LIVE}/test_metrics_live.py::test_many_different_alerts_add_no_series",),
    ),
    Row(
        16,
        "slow senders of headers and bodies, slow readers, a deadline from the handshake on, and "
        "who never reads",
        (
            at_least(900, "slow clients"),
            at_most(200, "p99 beside them, ms"),
            at_least(900, "slow readers"),
            at_most(200, "p99 beside slow readers, ms"),
            at_most(200, "MiB for slow readers"),
            at_most(200, "p99 beside 60 that never read, ms"),
        ),
        (
            "tests/test_worker.py::test_900_slow_clients_hold_up_nobody",
            "tests/test_worker.py::test_900_slow_readers_hold_up_nobody_and_cost_bounded_memory",
            "tests/test_worker.py::test_60_clients_that_pipeline_and_never_read_hold_up_nobody",
            "tests/test_worker.py::test_tls_has_the_deadline_from_the_handshake_on",
        ),
    ),
    Row(
        17,
        "bodies: 9 MiB declared, 100 MiB in chunks, gzip, NaN, surrogate, 100,000 levels, BOM, …",
        (at_least(10, PASSED), no("answers of 5xx")),
        (f"{LIVE}/test_bodies.py::test_a_body_that_is_none_is_refused_and_no_fault_of_ours",),
    ),
    Row(
        18,
        "request smuggling, on a raw socket",
        (at_least(40, PASSED),),
        ("tests/test_worker.py::test_what_two_could_read_differently_is_refused",),
    ),
    Row(
        19,
        "hostile values of labels through every action, and to the real Redis, RabbitMQ, systemd, "
        "supervisord, Podman and readers of settings (Kubernetes: a stand-in): data, never code",
        (at_least(500, "values"), at_least(25, PASSED)),
        (
            "tests/test_injection.py",
            "tests/test_hostile_programs.py",
            "tests/test_rabbitmq_queue.py::TestRabbitMQ::test_a_hostile_name_is_one_queue_and_no_other",
            "tests/test_services.py::TestSupervisor::test_a_hostile_name_is_none_that_it_has",
            "tests/test_systemd_live.py::test_a_hostile_name_is_no_unit_and_no_option",
            "tests/test_podman_live.py::test_a_hostile_name_is_no_container",
            (
                "tests/test_managers_contract.py::TestKubernetesContract"
                "::test_a_hostile_name_is_no_path_of_the_api"
            ),
        ),
    ),
    Row(
        20,
        "SSRF: addresses in every notation, redirects, names that are rebound to us",
        (at_least(60, PASSED),),
        (
            "tests/test_actions.py::TestAllowList::test_everything_else_is_refused",
            "tests/test_http_client.py::test_a_redirect_leads_nowhere_that_is_not_allowed",
            (
                f"{LIVE}/test_access_live.py"
                "::test_a_server_that_asks_nobody_refuses_what_a_browser_was_made_to_send"
            ),
        ),
    ),
    Row(
        21,
        "tokens in every place that can have one: in no log, answer, metric, table or dump",
        (at_least(10, "tokens"), no("occurrences")),
        (
            (
                "tests/test_redaction.py"
                "::test_seeded_tokens_are_nowhere_beside_a_stand_in_that_repeats_them"
            ),
            f"{LIVE}/test_access_live.py::test_no_secret_is_in_a_log_an_answer_or_a_metric",
        ),
    ),
    Row(
        22,
        "Prometheus down, slow, refusing or silent while it is asked for the proof",
        (at_least(20, PASSED),),
        (
            f"{LIVE}/test_with_alertmanager.py::test_an_exporter_that_died_of_the_action_proves_nothing",
            (
                f"{LIVE}/test_with_alertmanager.py"
                "::test_without_prometheus_after_the_action_nothing_is_proven"
            ),
            (
                f"{LIVE}/test_proof_live.py"
                "::test_while_prometheus_cannot_be_asked_a_run_waits_unless_it_says_otherwise"
            ),
            f"{LIVE}/test_proof_live.py::test_a_stopped_prometheus_is_no_yes",
            "tests/test_prometheus.py",
        ),
    ),
    Row(
        23,
        "a machine cut off or frozen, its lease expires, it comes back",
        (at_least(1, PASSED),),
        (f"{LIVE}/test_many_machines.py::test_who_is_cut_off_or_frozen_does_nothing_more",),
    ),
    Row(
        24,
        "a reload with each broken configuration: refused with file:line:column (400, where "
        "Prometheus says 500), `config_last_reload_successful` 0, the old one stays",
        (at_least(100, "broken configurations"), no("not refused as they should be")),
        ("tests/test_broken_reloads.py::test_each_is_refused_at_its_place_and_the_old_one_stays",),
    ),
    Row(
        25,
        "every alerting rule fires and does not fire; every recording rule",
        (at_least(40, PASSED),),
        ("tests/test_rules.py",),
    ),
    Row(
        26,
        "every query of every dashboard on a receiver that lives",
        (at_least(8, PASSED),),
        (f"{LIVE}/test_dashboards_live.py",),
    ),
    Row(
        27,
        "random lives of breaker, engine and run, beside a model",
        (at_least(10_000, "steps"),),
        ("tests/machines",),
    ),
    Row(
        28,
        "soak at 10 alerts a second, with restarts",
        (
            at_least(2, "hours"),
            at_least(1, "restarts"),
            at_most(1, "MiB of RSS an hour"),
            at_most(2, "descriptors more"),
        ),
        (f"{LIVE}/test_soak.py::test_memory_and_descriptors_stay_as_they_are",),
    ),
    Row(
        29,
        "mutants of the guards, the breaker, `decide` and dormancy",
        (at_least(85, "percent killed"),),
        ("tests/test_mutation.py::test_of_all_mutants_most_are_killed",),
    ),
)
