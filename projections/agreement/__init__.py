"""What the two teams agree on: what a definition says, what another one says otherwise, and which one counts
when. No part of the fold, so no part of a version's code."""
