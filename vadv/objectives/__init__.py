"""What is minimised: the joint loss of eq. 15 and the distillers that Tables 10 and 11 compare it with."""
