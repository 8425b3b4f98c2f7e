"""The policy editor: write, check, simulate, push, and watch what is reported."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from nicegui import run, ui

from appliance.dashboard import draft as drafts
from appliance.dashboard import layout
from appliance.dashboard.draft import Checked
from appliance.dashboard.explanation import explanation_rows, figures_rows
from appliance.dashboard.pushing import Outcome, Push
from appliance.dashboard.replay import (
    HOUR_S,
    Replays,
    happened_in_log,
    happened_in_telemetry,
    trace_of,
)
from appliance.errors import BrokerError, DelenError
from appliance.fleet import words
from appliance.fleet.tenants import TenantView
from appliance.messages import PolicyState
from appliance.picture import Picture
from appliance.settings import Settings

CHECK_EVERY_S = 0.3
PUSH_TIMEOUT_S = 10.0


class PolicyPage:
    """Built once for whoever edits. `may_push` is asked at every push."""

    def __init__(  # noqa: PLR0913 - what it shows and what it may, by name
        self,
        picture: Picture,
        *,
        appliance: str,
        tenant: str,
        settings: Settings,
        replays: Replays,
        may_push: Callable[[], bool],
        dark: ui.dark_mode,
    ) -> None:
        self._picture = picture
        self._appliance, self._tenant = appliance, tenant
        self._settings, self._replays, self._may_push = settings, replays, may_push
        self._base = self._state
        self._text = self._begun = drafts.new_draft(self._base, tenant=tenant)
        self._is_checked = False
        self._checked = Checked(problems=())
        layout.title(f"Policy of {tenant}")
        self._head()
        with ui.element("div").classes("split"):
            self._editor_card(dark)
            with ui.element("div").classes("stack"):
                self._problems_card()
                self._exits_card()
        self._replay_card()
        self._states_card()
        self.refresh()
        ui.timer(CHECK_EVERY_S, self.refresh)

    @property
    def _view(self) -> TenantView | None:
        return self._picture.fleet.tenants.get((self._appliance, self._tenant))

    @property
    def _state(self) -> PolicyState | None:
        view = self._view
        return None if view is None else view.state

    def _head(self) -> None:
        self._note = ui.label().classes("quiet text")
        with ui.element("section").classes("card") as self._conflict:
            layout.heading("409: somebody else pushed meanwhile")
            self._conflict_note = ui.label().classes("fault text").mark("conflict")
            self._theirs = ui.element("pre").classes("document").mark("theirs")
            with self._theirs:
                self._theirs_text = ui.label()
            with ui.element("div").classes("row"):
                ui.button("Take theirs", on_click=self._take_theirs).props("flat no-caps dense")
                ui.button("Keep mine as the next version", on_click=self._keep_mine).props(
                    "flat no-caps dense"
                )
        self._conflict.set_visibility(False)

    def _editor_card(self, dark: ui.dark_mode) -> None:
        with layout.card("Document"):
            self._editor = ui.codemirror(
                self._text,
                language="YAML",
                theme="githubLight",
                indent="  ",
                line_wrapping=True,
                on_change=self._typed,
            ).classes("editor")
            with ui.element("div").classes("row"):
                self._push = ui.button("Push", on_click=self._push_it).props("no-caps unelevated")
                self._simulate = ui.button(
                    "Simulate the last hour", on_click=self._simulate_it
                ).props("no-caps outline")
                self._pushed = ui.label().classes("text small").mark("pushed")
            if not self._may_push():
                ui.label(
                    "Read-only: to push policies, give the dashboard a password"
                    " (DELEN_DASHBOARD_PASSWORD or DELEN_DASHBOARD_PASSWORD_FILE) and log in."
                ).classes("quiet small")

        async def follow() -> None:
            is_dark = await ui.run_javascript("document.body.classList.contains('body--dark')")
            self._editor.set_theme("githubDark" if is_dark else "githubLight")

        dark.on_value_change(lambda: ui.timer(CHECK_EVERY_S, follow, once=True))
        ui.timer(CHECK_EVERY_S, follow, once=True)

    def _problems_card(self) -> None:
        with layout.card("Check"):
            self._verdict = ui.label().classes("small").mark("verdict")
            self._problems = ui.element("div").classes("stack")

    def _exits_card(self) -> None:
        with layout.card("What its exits cost"):
            self._exits_note = ui.label().classes("quiet small text")
            self._exits = layout.table(
                {
                    "exit": "exit", "time": "response time", "energy": "energy",
                    "accuracy": "accuracy", "reachable": "reachable", "breaks": "breaks",
                },
                left=("reachable", "breaks"),
            )  # fmt: skip
            self._conflicts = ui.label().classes("fault text small")

    def _replay_card(self) -> None:
        with layout.card("The last hour: what happened, and what this draft would have done"):
            ui.label(self._source_sentence()).classes("quiet small text")
            self._replay_fault = ui.label().classes("fault text small").mark("replay-fault")
            self._replay = layout.table(
                {"what": "", "happened": "happened", "would": "draft, simulated"}, left=("what",)
            )
            layout.show_rows(self._replay, [])

    def _states_card(self) -> None:
        with layout.card("Reported by appliances"):
            self._no_state = ui.label("No appliance reports a policy of this tenant.")
            self._no_state.classes("empty small")
            self._states = layout.table(
                {
                    "appliance": "appliance", "version": "in force", "engine": "engine",
                    "since": "accepted at", "rejection": "last push turned away",
                },
                wide=("engine", "since"),
                left=("appliance", "engine", "since", "rejection"),
            )  # fmt: skip
            self._states.add_slot("body-cell-rejection", layout.TEXT_SLOT)

    def _typed(self) -> None:
        self._is_checked = False

    @property
    def _is_edited(self) -> bool:
        return bool(self._editor.value != self._begun)

    def refresh(self) -> None:
        """Checks what was typed, and shows what is reported."""
        text = self._editor.value
        if not self._is_checked:
            self._is_checked = True
            self._text = text
            self._checked = drafts.check(text, tenant=self._tenant, engines=self._settings.engines)
            self._show_check()
        self._follow_state()
        views = self._picture.fleet.views_of(self._tenant)
        rows = [_state_row(view) for view in views if view.state is not None]
        self._no_state.set_visibility(not rows)
        layout.show_rows(self._states, rows)

    def _follow_state(self) -> None:
        state = self._state
        if not self._is_edited and state is not None and state != self._base:
            self._begin_with(state)
        in_force = (
            "nothing is in force yet"
            if _version(state) is None
            else (f"version {_version(state)} is in force")
        )
        self._note.set_text(f"On {words.short(self._appliance)}, {in_force}.")
        if self._is_edited and _version(state) != _version(self._base):
            self._show_conflict(
                f"Version {_version(state)} came into force while you edited version"
                f" {_version(self._base)}."
            )

    def _begin_with(self, state: PolicyState | None) -> None:
        self._base = state
        self._conflict.set_visibility(False)
        self._begun = drafts.new_draft(state, tenant=self._tenant)
        self._editor.set_value(self._begun)
        self._is_checked = False

    def _take_theirs(self) -> None:
        self._begin_with(self._state)

    def _keep_mine(self) -> None:
        self._base = self._state
        self._conflict.set_visibility(False)
        self._editor.set_value(
            drafts.with_version(self._editor.value, (_version(self._base) or 0) + 1)
        )
        self._is_checked = False

    def _show_conflict(self, sentence: str) -> None:
        state = self._state
        theirs = None if state is None else state.document
        self._conflict_note.set_text(f"{sentence} It is this, beside yours below:")
        self._theirs_text.set_text(theirs or "(this appliance does not tell its text)")
        self._conflict.set_visibility(True)

    def _show_check(self) -> None:
        checked = self._checked
        lines = max(1, self._text.count("\n") + 1)
        at: dict[int, list[str]] = {}
        for problem in checked.problems:
            at.setdefault(min(max(1, problem.line), lines), []).append(problem.message)
        self._editor.decorations = [
            {"kind": "line", "line": line, "class": "cm-problem"} for line in at
        ]
        self._editor.line_tooltips = {line: "\n".join(said) for line, said in at.items()}
        count = len(checked.problems)
        self._verdict.set_text(
            f"{count} problem{'s' * (count > 1)}" if count else "Nothing is wrong with it."
        )
        self._problems.clear()
        with self._problems:
            for problem in checked.problems:
                with ui.element("div").classes("problem"):
                    ui.label(f"line {problem.line}:{problem.column}").classes("place")
                    ui.label(problem.message)
        rows, note = explanation_rows(checked, self._state)
        layout.show_rows(self._exits, rows)
        self._exits_note.set_text(note)
        self._conflicts.set_text(" ".join(f"Conflict: {one}." for one in checked.conflicts))
        self._push.set_enabled(self._may_push() and not count)
        self._simulate.set_enabled(not count)

    async def _push_it(self) -> None:
        self.refresh()
        policy = self._checked.policy
        if policy is None:
            return
        if not self._may_push():
            self._pushed.set_text("Nothing was pushed: your session has ended, log in again.")
            return
        state = self._state
        if _version(state) != _version(self._base):
            self._show_conflict(f"409 stale version: version {_version(state)} is in force.")
            return
        push = Push(
            self._picture.fleet, tenant=self._tenant, document=self._text, version=policy.version
        )
        try:
            number = self._picture.watcher.push(self._tenant, self._text.encode())
        except BrokerError as error:
            self._pushed.set_text(str(error))
            return
        self._pushed.set_text("Pushed; waiting for the appliances ...")
        await self._await_outcome(push, number)

    async def _await_outcome(self, push: Push, number: int) -> None:
        """Shows what becomes of a message that pushes a policy."""
        for _ in range(int(PUSH_TIMEOUT_S / CHECK_EVERY_S)):
            refusal = self._picture.watcher.refusal(number)
            if refusal is not None:
                self._pushed.set_text(
                    f"{refusal}. May its user {self._settings.mqtt_username or '(none)'} push"
                    " policies, as `fleet` may?"
                )
                return
            if push.outcome().is_complete:
                break
            await asyncio.sleep(CHECK_EVERY_S)
        self._show_outcome(push.outcome())

    def _show_outcome(self, outcome: Outcome) -> None:
        self._pushed.set_text(words.short(outcome.sentence))
        if outcome.is_stale:
            self._show_conflict("409 stale version: another version is in force.")
        elif outcome.is_in_force:
            self._begin_with(self._state)

    async def _simulate_it(self) -> None:
        self.refresh()
        self._simulate.disable()
        self._replay_fault.set_text("Simulating ...")
        try:
            happened, would = await self._replayed()
            layout.show_rows(self._replay, figures_rows(happened, would))
            self._replay_fault.set_text("")
        except DelenError as error:
            self._replay_fault.set_text(str(error))
        finally:
            self._simulate.set_enabled(not self._checked.problems)

    async def _replayed(self) -> Any:
        text, database = self._text, self._settings.database
        if self._is_on_the_box:
            since_s = self._picture.now_s() - HOUR_S
            happened = await run.io_bound(happened_in_log, database, self._tenant, since_s=since_s)
            return happened, await self._replays.of_log(text, self._tenant, database=database)
        known = {
            view.name: view
            for view in self._picture.fleet.tenants_of(self._appliance)
            if view.state is not None and view.state.document is not None
        }
        view = self._view
        views = [*known.values(), *([view] if view is not None and view.name not in known else [])]
        documents = {
            name: one.state.document or "" for name, one in known.items() if one.state is not None
        }
        documents[self._tenant] = text
        figures = await self._replays.of_telemetry(documents, self._tenant, trace_of(views))
        return (None if view is None else happened_in_telemetry(view)), figures

    @property
    def _is_on_the_box(self) -> bool:
        return self._appliance == self._settings.appliance_id and self._settings.database.is_file()

    def _source_sentence(self) -> str:
        if self._is_on_the_box:
            return (
                "Played from this box's inference log: the same requests at the same times, the"
                " other tenants under their own policies."
            )
        return (
            f"The log of {words.short(self._appliance)} is not on this machine: played are as many"
            " requests as its telemetry told of since this dashboard was started, spread evenly."
            " The engines must be here, in DELEN_ENGINES."
        )


def _version(state: PolicyState | None) -> int | None:
    return None if state is None else state.version


def _state_row(view: TenantView) -> dict[str, Any]:
    state = view.state
    if state is None:
        return {"key": view.appliance}
    refused = state.last_rejection
    return {
        "key": view.appliance,
        "appliance": words.short(view.appliance),
        "version": words.NOTHING if state.version is None else f"version {state.version}",
        "engine": words.short(state.engine or words.NOTHING),
        "since": words.short((state.accepted_at or words.NOTHING)[:19].replace("T", " ")),
        "rejection": words.NOTHING
        if refused is None
        else words.short(f"{refused.code} {refused.reason}: {refused.detail}"),
    }
