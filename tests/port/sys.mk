# bmake asks for one; the port needs none of its rules.
