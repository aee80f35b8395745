"""The tests that the store room has always had, of the running application.

Usage: STORE_URL=http://127.0.0.1:8000 python3 -m unittest test_store
"""

import json
import os
import unittest

from client import Browser, Refused

URL = os.environ.get("STORE_URL", "http://127.0.0.1:8000")


class StoreRoom(unittest.TestCase):
    """One method for each thing that it has to do."""

    @classmethod
    def setUpClass(cls):
        cls.ann = Browser(URL, "ann")
        cls.ann.login()

    def refused(self, status, action):
        with self.assertRaises(Refused) as caught:
            action()
        self.assertEqual(caught.exception.status, status)

    def test_a_visitor_is_sent_to_the_login(self):
        stranger = Browser(URL, "eve")
        self.refused(302, stranger.open)
        self.assertEqual(stranger.seen["Location"], "/login/?next=/")
        self.refused(401, lambda: stranger.get(f"/page/{'0' * 22}/poll"))

    def test_a_wrong_password_is_refused(self):
        with self.assertRaises(AssertionError):
            Browser(URL, "bob").submit("/login/", username="bob", password="secret of ann")

    def test_a_logout_ends_the_session(self):
        bob = Browser(URL, "bob")
        bob.login()
        tab = bob.open()
        with self.assertRaises(Refused):
            bob.post("/logout/", "", {})
        self.assertLessEqual(bob.cookies.keys(), {"csrftoken"})
        self.refused(401, tab.poll)

    def test_a_request_without_the_token_of_its_form_is_refused(self):
        tab = self.ann.open()
        token = self.ann.cookies.pop("csrftoken")
        self.refused(403, lambda: tab.act("undo"))
        self.ann.cookies["csrftoken"] = token

    def test_tabs_of_one_browser_have_a_page_each(self):
        one, two = self.ann.open(), self.ann.open()
        self.assertNotEqual(one.page, two.page)
        lamp = one.row("Lamp")["item"]
        one.act("move", item=lamp, by=1)
        self.assertEqual(two.act("filter", text="")["undo"], 0)
        self.assertEqual(one.act("undo")["undo"], 0)
        self.assertGreaterEqual(json.loads(self.ann.get("/here"))["ann"], 2)

    def test_what_a_page_does_not_understand_is_refused(self):
        tab = self.ann.open()
        for method, params in [
            ("move", {}),
            ("move", {"item": "x", "by": 1}),
            ("__init__", {}),
            ("undo", {"all": True}),
        ]:
            self.refused(400, lambda method=method, params=params: tab.act(method, **params))
        self.refused(405, lambda: self.ann.get(f"/page/{tab.page}/undo"))

    def test_a_name_is_shown_as_text(self):
        tab = self.ann.open()
        tab.act("notice", text="</script><b>")
        self.assertNotIn("<b>", self.ann.get("/").partition('id="shown"')[2].partition("</script>")[0])
        tab.act("notice", text="")

    def test_the_admin_lists_the_items(self):
        self.assertIn("Lamp", self.ann.get("/admin/store/item/"))


if __name__ == "__main__":
    unittest.main()
