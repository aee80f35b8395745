"""What a process keeps between requests: limits, classes, templates, preferences, relations."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gnr.core.gnrbag import Bag
from gnr.core.gnrlang import classMixin, cloneClass, gnrImport

from pagewire_genropy import kept, kept_classes, kept_preferences, kept_relations, kept_templates
from pagewire_genropy.kept import Kept, Limits, limits_of


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Time that passes when a test says so."""
    now = SimpleNamespace(passed=0.0)
    start = kept.time.monotonic()
    monkeypatch.setattr(kept.time, "monotonic", lambda: start + now.passed)
    return now


# limits


def test_the_setting_is_on_off_or_names_limits_and_anything_else_is_refused():
    assert limits_of("") is None and limits_of("off") is None
    assert limits_of("on") == Limits()
    assert limits_of("entries=5 idle_s=60") == Limits(entries=5, idle_s=60)
    for wrong in ("yes", "entries", "entries=0", "pages=4", "idle_s=-1"):
        with pytest.raises(ValueError, match="GENROPY_KEEP"):
            limits_of(wrong)


def test_only_the_values_that_were_used_last_are_kept():
    some = Kept(Limits(entries=2))
    some.put("a", 1)
    some.put("b", 2)
    assert some.get("a") == 1
    some.put("c", 3)
    assert (some.get("a"), some.get("b"), some.get("c"), len(some)) == (1, None, 3, 2)


def test_what_is_not_used_for_the_idle_time_is_dropped(clock):
    some = Kept(Limits(idle_s=60))
    some.put("a", 1)
    some.put("b", 2)
    clock.passed = 40
    assert some.get("a") == 1
    clock.passed = 90
    assert some.get("b") is None and some.get("a") == 1


def test_a_process_with_too_much_memory_keeps_nothing_until_it_has_less(clock):
    memory = SimpleNamespace(mb=100)
    some = Kept(Limits(memory_mb=200), lambda: memory.mb)
    some.put("a", 1)
    memory.mb, clock.passed = 201, 2
    assert some.get("a") is None and some.is_full()
    some.put("a", 1)
    assert some.get("a") is None
    memory.mb, clock.passed = 150, 4
    some.put("a", 1)
    assert some.get("a") == 1


def test_the_memory_of_this_process_is_known():
    assert kept.process_memory() > 10


# classes


class Loader:
    """Puts a class together as Genropy does: from a page, and from a component in each folder that has it."""

    def __init__(self, folder: Path) -> None:
        self.folders = [str(folder / "custom"), str(folder / "common")]
        self.site = self.gnrapp = SimpleNamespace(customFolder=str(folder))
        self.made = 0
        self.classes = kept_classes.Classes(Kept(Limits()))

    def getResourceList(self, folders: list[str], name: str) -> list[str]:
        return [path for path in (os.path.join(folder, name) for folder in folders) if os.path.exists(path)]

    def make(self, basepath: str, relpath: str, **_: Any) -> type:
        self.made += 1
        custom = gnrImport(os.path.join(basepath, relpath), avoidDup=True).GnrCustomWebPage
        made = cloneClass("GnrCustomWebPage", type("Page", (), {}))
        made.css_requires, made.resourceDirs = [], list(self.folders)
        for path in reversed(self.classes.look(Loader.getResourceList, self, (self.folders, "part.py"), {})):
            classMixin(made, f"{path}:Part", only_callables=False)
        classMixin(made, custom, only_callables=False)
        return made

    def page_class(self, folder: Path, **given: Any) -> type:
        given = {"basepath": str(folder), "relpath": "page.py", "pkg": None, "request_kwargs": {}, **given}
        return self.classes.page(lambda _, **options: self.make(**options), self, given)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("common", "custom"):
        (tmp_path / name).mkdir()
    (tmp_path / "page.py").write_text("class GnrCustomWebPage:\n    def title(self):\n        return 'page'\n")
    (tmp_path / "common/part.py").write_text("class Part:\n    def part(self):\n        return 'common'\n")
    return tmp_path


def test_the_class_of_a_page_is_made_once_and_each_request_has_its_own(folder):
    loader = Loader(folder)
    one, other = (loader.page_class(folder) for _ in range(2))
    assert loader.made == 1 and one is not other
    assert one.__name__ == "GnrCustomWebPage" and one().title() == "page" and one().part() == "common"
    one.css_requires.append("a")
    one.resourceDirs.clear()
    one.title = None
    assert (other.css_requires, other().title()) == ([], "page")
    assert loader.page_class(folder).resourceDirs == loader.folders


def test_a_new_file_of_a_component_is_seen_after_a_second(folder, clock):
    loader = Loader(folder)
    assert loader.page_class(folder)().part() == "common"
    (folder / "custom/part.py").write_text("class Part:\n    def part(self):\n        return 'custom'\n")
    clock.passed = 2
    assert loader.page_class(folder)().part() == "custom" and loader.made == 2
    clock.passed = 4
    assert loader.page_class(folder)().part() == "custom" and loader.made == 2


def test_a_module_that_is_imported_again_makes_all_classes_again(folder):
    loader = Loader(folder)
    loader.page_class(folder)
    loader.page_class(folder, avoid_module_cache=True)
    loader.page_class(folder)
    assert loader.made == 3


def test_pages_of_one_module_differ_by_the_package_that_it_names(folder):
    (folder / "page.py").write_text(
        "class GnrCustomWebPage:\n    @classmethod\n"
        "    def getMainPackage(cls, request_args=None, request_kwargs=None):\n        return request_args[0]\n"
    )
    loader = Loader(folder)
    for package in ("invc", "adm", "invc"):
        loader.page_class(folder, request_args=[package])
    assert loader.made == 2


def test_a_page_without_a_class_of_its_own_is_not_kept(folder):
    (folder / "page.py").write_text("")
    loader = Loader(folder)
    for _ in range(2):
        with pytest.raises(AttributeError):
            loader.page_class(folder)
    assert loader.made == 2


def test_the_class_of_a_component_is_kept_for_the_folders_of_its_page(folder):
    loader, made = Loader(folder), []

    def make(_: Any, *path: str, page: Any) -> type:
        made.append(path)
        return type("CustomResource", (), {"js_requires": ["a"]})

    pages = [SimpleNamespace(resourceDirs=folders) for folders in (["x"], ["x"], ["y"])]
    classes = [loader.classes.component(make, loader, ("grid",), {"page": page}) for page in pages]
    assert len(made) == 2
    classes[0].js_requires.append("b")
    assert classes[1].js_requires == ["a"]


def test_the_instance_may_have_a_file_of_its_own_for_a_page(folder):
    loader = Loader(folder)
    (folder / "invc/webpages").mkdir(parents=True)
    assert not kept_classes.has_custom_page(loader, "page.py", "invc")
    (folder / "invc/webpages/page.py").write_text("")
    assert kept_classes.has_custom_page(loader, "page.py", "invc")
    assert not kept_classes.has_custom_page(loader, "page.py", None)


# templates


class Lookup:
    """Compiles a template when it is not in the collection, as the lookup of mako without checks of files does."""

    def __init__(self, directories: list[str], filesystem_checks: bool, **options: Any) -> None:
        assert not filesystem_checks
        self.directories = directories
        self._collection: dict[str, str] = {}

    def get_template(self, uri: str) -> str:
        if uri not in self._collection:
            file = kept_templates.file_of(self.directories, uri)
            if file is None:
                raise LookupError(uri)
            self._collection[uri] = Path(file[0]).read_text()
        return self._collection[uri]


def test_a_template_is_compiled_again_when_its_file_changes_or_another_folder_has_one(folder):
    templates = kept_templates.Templates(Kept(Limits()), Lookup)

    def read() -> str:
        return templates(
            directories=[str(folder / "custom"), str(folder / "common")], output_encoding="utf-8"
        ).get_template("standard.tpl")

    with pytest.raises(LookupError):
        read()
    common, custom = folder / "common/standard.tpl", folder / "custom/standard.tpl"
    common.write_text("one")
    assert read() == "one"
    time = common.stat().st_mtime_ns
    common.write_text("two")
    os.utime(common, ns=(time + 1, time + 1))
    assert read() == "two"
    custom.write_text("mine")
    assert read() == "mine"
    custom.unlink()
    assert read() == "two"


def test_folders_and_options_have_lookups_of_their_own(folder):
    templates = kept_templates.Templates(Kept(Limits()), Lookup)
    first = templates(directories=["a"], output_encoding="utf-8")
    assert templates(directories=["a"], output_encoding="utf-8") is first
    assert templates(directories=["b"], output_encoding="utf-8") is not first
    assert templates(directories=["a"], output_encoding="ascii") is not first


# preferences


class Cache:
    """The cache of the application, as Genropy has it, and requests that use it."""

    def __init__(self) -> None:
        self.cache: dict[str, Any] = {}
        self.preferences = kept_preferences.Preferences()
        self.site = SimpleNamespace(currentRequest=object())

    def getItem(self, key: str) -> Any:
        return self.preferences.get(lambda cache, key, default: cache.cache.get(key, default), self, key, None)

    def setItem(self, key: str, value: Any) -> None:
        self.preferences.set(lambda cache, key, value: cache.cache.update({key: value}), self, key, value)


@pytest.mark.parametrize("key", ["_mainpref_", "_mainpref__shop", "amelia_preference"])
@pytest.mark.parametrize("nothing", [None, Bag()])
def test_a_request_reads_empty_preferences_once_and_gets_an_empty_bag(key, nothing):
    cache = Cache()
    assert not cache.getItem(key)
    cache.setItem(key, nothing)
    found = cache.getItem(key)
    assert found  # Genropy reads again what is false
    assert type(found.deepcopy()) is Bag and len(found.deepcopy()) == 0


def test_empty_preferences_are_read_again_by_the_next_request_after_a_change_and_later(clock):
    cache = Cache()
    cache.setItem("_mainpref_", Bag())
    cache.site.currentRequest = object()
    assert not cache.getItem("_mainpref_")
    cache.setItem("_mainpref_", Bag())
    assert cache.getItem("_mainpref_")
    cache.preferences.forget()
    assert not cache.getItem("_mainpref_")
    cache.setItem("_mainpref_", Bag())
    clock.passed = 0.3
    assert not cache.getItem("_mainpref_")


def test_without_a_request_empty_preferences_are_read_at_each_use():
    cache = Cache()
    cache.site.currentRequest = None
    cache.setItem("_mainpref_", Bag())
    assert not cache.getItem("_mainpref_")


def test_other_values_of_the_cache_are_left_alone():
    cache, filled = Cache(), Bag({"a": 1})
    cache.setItem("MULTI_DBSTORES", {})
    cache.setItem("other", Bag())
    cache.setItem("_mainpref_", filled)
    assert cache.getItem("MULTI_DBSTORES") == {} and not cache.getItem("other")
    assert cache.getItem("_mainpref_") is filled


# relations


def test_a_thread_builds_the_relations_of_a_table_once_until_its_virtual_columns_change():
    some, made = Kept(Limits()), []
    table = {"virtual_columns": {"full_name": 1}}

    def make(_: Any, **options: Any) -> object:
        made.append(options)
        return object()

    def tree(**options: Any) -> Any:
        return kept_relations.resolver(some, make, table, options)

    first = tree(cacheTime=-1)
    assert tree(cacheTime=-1) is first
    assert tree() is not tree(), "what Genropy does not keep for a request is not kept"
    found: list[Any] = []
    other = threading.Thread(target=lambda: found.append(tree(cacheTime=-1)))
    other.start()
    other.join()
    assert found[0] is not first
    table["virtual_columns"]["age"] = 2
    assert tree(cacheTime=-1) is not first
