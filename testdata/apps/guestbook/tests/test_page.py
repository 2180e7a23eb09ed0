import unittest

from app import page


class Page(unittest.TestCase):
    def test_every_entry_is_one_line_with_its_mood(self):
        entries = [{"name": "A", "text": "It works!"}, {"name": "B", "text": "Hm."}]
        self.assertEqual(page(entries), "A (glad): It works!\nB (calm): Hm.\n")


if __name__ == "__main__":
    unittest.main()
