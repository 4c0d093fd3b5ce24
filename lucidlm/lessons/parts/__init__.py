"""What breaks if you take a part away: equal runs, each without one part, and one step backward."""

ORDER = 130
