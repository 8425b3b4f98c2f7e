"""Broken frames, policies, topics, power lines and manifests, in numbers no test could hold."""
