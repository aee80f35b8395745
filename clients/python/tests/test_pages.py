"""The registration of resident pages, and their objects without a wire."""

import threading

import pytest

from pagewire import App, NoObject, Page, rpc
from pagewire.page_class import PageClass
from pagewire.resident import Resident
from pagewire.runtime import ready, slots_of


def refused(make, error, *parts):
    """Checks that the registration of a class fails with a reason."""
    with pytest.raises(error) as caught:
        App().page(make())
    for part in parts:
        assert part in str(caught.value)


def test_a_class_is_registered_under_its_name_or_another_one():
    app = App()

    @app.page
    class Counter(Page):
        @rpc
        def add(self):
            pass

    @app.page(name="Second")
    class Other(Page):
        pass

    app.page(Counter, name="Third")
    app.page(Counter)
    assert list(app.pages) == ["Counter", "Second", "Third"]
    assert app.pages["Third"].methods["add"].name == "Third.add"


def test_a_name_has_one_class_and_a_method_is_no_handler():
    app = App()

    @app.page
    class Counter(Page):
        @rpc
        def add(self):
            pass

    with pytest.raises(ValueError, match="two classes of pages with the name `Counter`"):
        app.page(Page, name="Counter")
    with pytest.raises(ValueError, match=r"`Counter\.add` is a method"):
        app.handler("Counter.add")(lambda ctx: 1)
    app.handler("Other.add")(lambda ctx: 1)
    with pytest.raises(ValueError, match=r"`Other\.add` is a handler"):
        app.page(Counter, name="Other")


@pytest.mark.parametrize("name", ["a.b", "", "two words", "1st", 5, "x" * 199])
def test_the_name_of_a_class_is_an_identifier(name):
    with pytest.raises(ValueError, match="identifier of at most 198 bytes"):
        App().page(type("Counter", (Page,), {}), name=name)


def test_the_name_of_a_method_has_with_its_class_at_most_200_bytes():
    def make(length):
        return type("Counter", (Page,), {"m": rpc(name="x" * length)(lambda self: 1)})

    App().page(make(192))
    refused(lambda: make(193), ValueError, "1 to 200 bytes")


def test_only_classes_of_pages_are_registered():
    refused(lambda: object, TypeError, "inherits from pagewire.Page")
    refused(lambda: 5, TypeError, "inherits from pagewire.Page")


def test_a_class_that_saves_has_to_restore():
    refused(lambda: type("Counter", (Page,), {"save": lambda self: 1}), TypeError, "`save` and no `restore")
    App().page(type("Counter", (Page,), {"restore": lambda self, saved, why: 1}))


@pytest.mark.parametrize("name", ["data", "ctx", "send", "page", "user"])
def test_what_every_page_has_is_not_hidden(name):
    refused(lambda: type("Counter", (Page,), {name: 5}), TypeError, f"`Counter.{name}` hides")


def test_an_object_is_made_without_parameters():
    def make(init):
        return type("Counter", (Page,), {"__init__": init})

    refused(lambda: make(lambda self, size: None), TypeError, "`Counter.__init__` needs `size`")
    App().page(make(lambda self, size=1, *rest: None))


def test_only_methods_of_an_object_are_marked():
    def one(self):
        pass

    def generator(self):
        yield 1

    refused(lambda: type("C", (Page,), {"a": staticmethod(rpc(one))}), TypeError, "`C.a` is no method of an object")
    refused(lambda: type("C", (Page,), {"a": rpc(staticmethod(one))}), TypeError, "`C.a` is no method of an object")
    refused(lambda: type("C", (Page,), {"a": classmethod(rpc(one))}), TypeError, "`C.a` is no method of an object")
    refused(lambda: type("C", (Page,), {"on_open": rpc(one)}), TypeError, "`C.on_open` is called by Pagewire itself")
    refused(lambda: type("C", (Page,), {"a": rpc(generator)}), TypeError, "`C.a` is a generator")
    refused(lambda: type("C", (Page,), {"a": rpc(timeout=0)(lambda self: 1)}), ValueError, "timeout of `C.a`")
    with pytest.raises(TypeError, match="@rpc marks a method, not a property"):
        rpc(property(one))


def test_two_methods_have_two_names():
    members = {"a": rpc(lambda self: 1), "b": rpc(name="a")(lambda self: 2)}
    refused(lambda: type("C", (Page,), members), ValueError, "`C` has two methods with the name `a`")


def test_methods_are_inherited_replaced_and_left_out():
    class Base(Page):
        @rpc
        def one(self):
            return 1

        @rpc
        def two(self):
            return 2

    class Right(Base):
        one = None

        @rpc
        async def two(self):
            return 3

    assert list(PageClass(Right).methods) == ["two"]
    assert PageClass(Right).is_async and not PageClass(Base).is_async
    refused(lambda: type("Wrong", (Base,), {"one": lambda self: 3}), TypeError, "replaces a method with @rpc")


def test_an_async_hook_needs_the_event_loop():
    app = App(threads=1)
    app.page(type("Plain", (Page,), {}))
    assert slots_of(app) == 1

    @app.page
    class Counter(Page):
        async def on_away(self):
            pass

    assert slots_of(app) is None


def test_a_type_that_json_cannot_be_checked_against_is_named_with_its_method():
    app = App()

    @app.page
    class Counter(Page):
        @rpc
        def add(self, lock: threading.Lock):
            pass

    with pytest.raises(TypeError, match=r"`Counter\.add`"):
        ready(app, "")


def test_schemas_are_left_out_of_a_ready_that_would_be_too_long():
    app = App()
    method = rpc(lambda self: 1)
    method.__doc__ = "x" * 600_000
    app.page(type("Counter", (Page,), {"add": method}))
    app.handler("one")(lambda ctx: 1)
    written = ready(app, "")
    assert written["pages"] == [{"name": "Counter", "methods": [{"name": "add"}]}]
    assert written["methods"] == [{"name": "one"}]


# objects


def resident_of(app, kind, page="p|p01"):
    resident = Resident(app.pages[kind].make({"page": page}))
    app.residents.add(resident)
    return resident


def counters():
    app = App()

    @app.page
    class Counter(Page):
        def __init__(self):
            self.n, self.made_for = 0, self.page

    return app, Counter


def test_an_object_knows_its_page_when_it_is_made():
    app, counter = counters()
    page = resident_of(app, "Counter").object
    assert (page.made_for, page.user, repr(page)) == ("p|p01", None, "<Counter of the page p|p01>")


def test_threads_have_an_object_one_after_the_other():
    app, counter = counters()
    resident_of(app, "Counter")

    def add():
        for _ in range(200):
            with app.object("p|p01", counter) as one:
                n = one.n
                threading.Event().wait(0)
                one.n = n + 1

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with app.object("p") as one:
        assert one.n == 1600


def test_a_thread_that_has_an_object_does_not_wait_for_itself():
    app, counter = counters()
    resident = resident_of(app, "Counter")
    with app.object("p") as one:
        with app.object("p") as two:
            assert one is two
        assert resident.is_held
    assert not resident.is_held


def test_a_block_that_raises_gives_the_object_back():
    app, counter = counters()
    resident_of(app, "Counter")
    with pytest.raises(ZeroDivisionError), app.object("p"):
        _ = 1 / 0
    with app.object("p"):
        pass


def test_a_page_without_an_object_or_with_one_of_another_class_is_named():
    app, counter = counters()
    resident_of(app, "Counter")

    class Other(Page):
        pass

    with pytest.raises(NoObject, match="the page q has no object in this process"), app.object("q"):
        pass
    with pytest.raises(NoObject, match="the page p has no `Other` in this process"), app.object("p", Other):
        pass
    assert app.objects() == ["p|p01"]


def test_an_object_that_was_dropped_while_a_thread_waited_is_not_given():
    app, counter = counters()
    resident = resident_of(app, "Counter")
    said = []

    def meet():
        try:
            with app.object("p"):
                said.append("met")
        except NoObject:
            said.append("none")

    with app.object("p"):
        thread = threading.Thread(target=meet)
        thread.start()
        while not resident._waiting:
            pass
        app.residents.drop("p")
    thread.join()
    assert said == ["none"] and not resident.is_held


def test_a_meeting_is_entered_once():
    app, counter = counters()
    resident_of(app, "Counter")
    meeting = app.object("p")
    with meeting, pytest.raises(RuntimeError, match="entered already"), meeting:
        pass


def test_an_object_outside_of_a_message_has_no_context():
    app, counter = counters()
    resident_of(app, "Counter")
    with app.object("p") as one:
        for use in (lambda: one.ctx, lambda: one.data, lambda: one.send(1)):
            with pytest.raises(RuntimeError, match="no message of this `Counter` runs"):
                use()
