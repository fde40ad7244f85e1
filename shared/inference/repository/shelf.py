"""One model's versions: what lies on disk, what somebody asked for, what is ready, and which of it answers.

Pure state, changed on the event loop. Not here: making it so (`upkeep.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

from shared.inference.repository.versions import LOADING, READY, UNAVAILABLE, Folder, Version, order

LATEST = "latest"
_UNLOADED = "unloaded by a call; loading it brings it back"


class Shelf:
    """The versions of one model.

    By the rule `latest` the newest versions that can be loaded are kept ready, and the newest of them answers where a
    request names none; by any other rule that version only. Versions that were asked for by name are kept beside them.
    """

    def __init__(self, name: str, *, rule: str, count: int, catalogued: str | None) -> None:
        """`count` versions are kept ready; `catalogued` is the catalogue's version, None for a model of the user's own."""
        self.name = name
        self._rule = rule
        self._count = count
        self._catalogued = catalogued
        # By the version's name; what lies on disk.
        self.folders: Mapping[str, Folder] = {}
        # What is told of, newest first.
        self.versions: list[Version] = []
        self._asked: set[str] = set()
        # Version -> why it must not be loaded.
        self._put_away: dict[str, str] = {}
        # Why none must be loaded; "" where they may.
        self._unloaded = ""
        self._tell_what_is_there()

    # What is wanted.

    def find_on_disk(self, folders: Mapping[str, Folder]) -> bool:
        """Take note of what lies on disk; True if it differs from before."""
        if folders == self.folders:
            return False
        for number in [
            number for number in self._put_away if folders.get(number) != self.folders.get(number)
        ]:
            del self._put_away[number]
        self._asked &= folders.keys()
        self.folders = dict(folders)
        self._tell_what_is_there()
        return True

    def ask(self, number: str = "") -> None:
        """Want a version, or what the rule says, even if it was put away or refused before."""
        if not number:
            self._unloaded = ""
            self._put_away.clear()
        else:
            self._put_away.pop(number, None)
            if self._unloaded or number not in self.candidates()[: self._count]:
                self._asked.add(number)
        # What was refused is tried again.
        for version in [
            one for one in self.versions if one.state == UNAVAILABLE and number in ("", one.version)
        ]:
            version.folder = None

    def put_away(self, number: str = "", reason: str = _UNLOADED) -> None:
        """Want a version no more, or none at all, until it is asked for or its folder changes."""
        if number:
            self._asked.discard(number)
            self._put_away[number] = reason
        else:
            self._asked.clear()
            self._unloaded = reason
            # Why others were refused says nothing any more of why none serves.
            self.versions = [version for version in self.versions if version.state != UNAVAILABLE]
            self._tell_what_is_there()

    @property
    def unloaded(self) -> bool:
        """Whether none of it is wanted."""
        return bool(self._unloaded)

    def candidates(self) -> list[str]:
        """Versions that the rule allows to be loaded, the best first."""
        if self._unloaded:
            return []
        numbers = [self._rule] if self._rule != LATEST else sorted(self.folders, key=order, reverse=True)
        return [number for number in numbers if number in self.folders and number not in self._put_away]

    def wanted(self) -> tuple[list[str], int, list[str]]:
        """Versions in the order in which they are tried, how many of them are enough, and those asked for besides."""
        return self.candidates(), self._count, sorted(self._asked, key=order)

    def allows(self, number: str) -> bool:
        """Whether a version may be ready now."""
        if number in self._put_away or number not in self.folders:
            return False
        return number in self._asked or number in self.candidates()

    def serves_on(self, version: Version) -> bool:
        """Whether a ready version stays although no wanted one could be loaded: nobody asked for it to go."""
        return not self._unloaded and version.version not in self._put_away and bool(self.candidates())

    # What is.

    @property
    def default(self) -> Version | None:
        """The version that answers where a request names none."""
        for version in self.versions:
            if version.state == READY and self._rule in (LATEST, version.version):
                return version
        return None

    @property
    def ready(self) -> list[Version]:
        """Versions that answer, newest first."""
        return [version for version in self.versions if version.state == READY]

    @property
    def loading(self) -> bool:
        """Whether a version is being loaded."""
        return any(version.state == LOADING for version in self.versions)

    @property
    def known(self) -> bool:
        """Whether anything is to be told of it."""
        return bool(self.versions)

    def get(self, number: str, state: int) -> Version | None:
        """The version of that name in a state."""
        for version in self.versions:
            if version.version == number and version.state == state:
                return version
        return None

    def begin(self, number: str) -> tuple[Version, bool]:
        """A version that is being loaded from now on, and whether that is news; in the place of one that was refused."""
        if (version := self.get(number, LOADING)) is not None:
            version.folder = self.folders[number]
            return version, False
        if (refused := self.get(number, UNAVAILABLE)) is not None:
            self.versions.remove(refused)
        version = Version(self.name, number, self.folders[number], LOADING)
        self.versions.append(version)
        self._sort()
        return version, True

    def drop(self, version: Version) -> None:
        """End a version: with its reason if it was put away, else it is not told of any more."""
        version.model = None
        reason = self._put_away.get(version.version, self._unloaded)
        if reason and version.version in self.folders:
            version.state, version.reason = UNAVAILABLE, reason
        else:
            self.versions.remove(version)
        self._tell_what_is_there()

    def tidy(self) -> bool:
        """Nothing is being loaded now: forget what was about to be and is not wanted any more. True if that is news."""
        before = list(self.versions)
        self.versions = [version for version in self.versions if version.state != LOADING]
        self._tell_what_is_there()
        return before != self.versions

    def explain(self) -> str:
        """Why no version answers."""
        if self.loading:
            return "it is being loaded"
        return next(
            (version.reason for version in self.versions if version.reason), "no version of it is loaded"
        )

    def _tell_what_is_there(self) -> None:
        """Forget what is gone, and have at least one version to tell of while there is a model at all."""
        self.versions = [
            version
            for version in self.versions
            if version.state == READY or (version.folder is not None and version.version in self.folders)
        ]
        if not self.versions and (version := self._make_first()) is not None:
            self.versions = [version]

    def _make_first(self) -> Version | None:
        numbers = sorted(self.folders, key=order, reverse=True)
        if self._unloaded and numbers:
            return Version(self.name, numbers[0], self.folders[numbers[0]], UNAVAILABLE, self._unloaded)
        if self._rule != LATEST and self._rule not in numbers and (numbers or self._catalogued is not None):
            reason = f"version {self._rule} is set and not on disk; there are: {', '.join(numbers) or 'none'}"
            return Version(self.name, self._rule, None, UNAVAILABLE, reason)
        if candidates := self.candidates():
            return Version(self.name, candidates[0], self.folders[candidates[0]], LOADING)
        if numbers:
            reason = self._put_away.get(numbers[0], "")
            return Version(self.name, numbers[0], self.folders[numbers[0]], UNAVAILABLE, reason)
        if self._catalogued is not None:
            reason = f"not pulled: run `sensorium models pull {self.name}`"
            return Version(self.name, self._catalogued, None, UNAVAILABLE, reason)
        return None

    def _sort(self) -> None:
        # A ready one before one of the same name that is to take its place.
        self.versions.sort(key=lambda version: (order(version.version), version.state == READY), reverse=True)
